"""OpenAI's answers to image edits: JSON, events, and the bare picture."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from starlette.responses import JSONResponse, Response

from overpaint.apps.server.bodies.answers import verdicts
from overpaint.apps.server.bodies.openai_fields import QUALITIES, EditForm
from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Format, Picture
from overpaint.core.types import EditResult

TOKEN_PIXELS = 16 * 16
"""Pixels that `usage` counts as one image token."""

SEED_HEADER = "x-overpaint-seed"
WARNINGS_HEADER = "x-overpaint-warnings"
"""Headers of an answer that is a bare picture: a number, and a JSON list of sentences."""

_COMPLETED = ("background", "output_format", "quality", "size", "usage", "safety")
"""Fields of the last event of a stream, beside the picture."""

_FORMATS: dict[str, Format] = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_MEDIA_TYPES = {f"image/{name}": name for name in _FORMATS}
_OTHER_MEDIA_TYPES = ("application/json", "text/event-stream", "*/*")


@dataclass(frozen=True)
class AnswerFormat:
    """How the images are handed over.

    Attributes:
        form: of the request.
        is_bare: one picture's file instead of JSON.
    """

    form: EditForm
    is_bare: bool = False

    @classmethod
    def of(cls, form: EditForm, accept: str) -> AnswerFormat:
        """What a request asks for.

        Args:
            form: its fields.
            accept: its header `Accept`.

        Raises:
            InvalidRequest: a bare picture is asked for, and a field asks for something else.
        """
        kind = _bare_format(accept)
        if kind is None:
            return cls(form)
        if "output_format" in form.model_fields_set and form.output_format != kind:
            raise InvalidRequest(
                f"the header Accept asks for image/{kind}; leave one of them out",
                field="output_format",
            )
        if form.n != 1:
            raise InvalidRequest(
                f"an answer of image/{kind} is one picture; accept application/json for several",
                field="n",
            )
        if form.stream:
            raise InvalidRequest(
                f"an answer of image/{kind} is one picture; accept text/event-stream",
                field="stream",
            )
        return cls(form.model_copy(update={"output_format": kind}), is_bare=True)

    def content(self) -> dict[str, Any]:
        """All that decides about the answer beside the edit, as plain data."""
        fields = {name: getattr(self.form, name) for name in EditForm.model_fields}
        del fields["stream"], fields["partial_images"]
        return {**fields, "is_bare": self.is_bare}

    @property
    def quality(self) -> str:
        """The quality as OpenAI's answers name it."""
        return self.form.quality if self.form.quality in QUALITIES else "medium"

    @property
    def format(self) -> Format:
        """The format of the files."""
        return _FORMATS[self.form.output_format]

    def encode(self, picture: Picture) -> bytes:
        """The picture's file in the format that was asked for."""
        compression = self.form.output_compression
        return images.encode(
            self.flatten(picture),
            self.format,
            quality=max(1, compression),
            lossless=compression == 100,
        )

    def as_text(self, picture: Picture) -> str:
        """base64 of the picture's file."""
        return base64.b64encode(self.encode(picture)).decode()

    def flatten(self, picture: Picture) -> Picture:
        """The picture as it is handed over: over white where an opaque one is asked for."""
        if picture.alpha is None or self.form.background != "opaque":
            return picture
        white = Image.new("RGB", picture.size, "white")
        over = Image.composite(picture.rgb, white, picture.alpha)
        return replace(picture.with_rgb(over), alpha=None, seal=picture.seal)

    def check(self, picture: Picture) -> None:
        """Refuse before anything is made what the format cannot hold.

        Args:
            picture: the one to edit.

        Raises:
            InvalidRequest: the answer cannot be as it is asked for.
        """
        if self.form.background == "transparent" and picture.alpha is None:
            raise InvalidRequest(
                "the picture is opaque, and an edit keeps its transparency as it is; send a "
                "picture with transparency, or leave it out",
                field="background",
            )
        try:
            images.check_fits(self.flatten(picture), self.format)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field="output_format") from error

    def common(self, picture: Picture) -> dict[str, Any]:
        """The fields that answers and events share."""
        return {
            "background": "opaque" if self.flatten(picture).alpha is None else "transparent",
            "output_format": self.form.output_format,
            "quality": self.quality,
            "size": f"{picture.size[0]}x{picture.size[1]}",
        }

    def answer(self, result: EditResult, pictures: int, warnings: Sequence[str]) -> dict[str, Any]:
        """The answer's fields.

        Args:
            result: of the edit.
            pictures: that the request had.
            warnings: beside the result's own.
        """
        warnings = [*warnings, *result.warnings]
        if self.is_bare:
            file = self.encode(result.pictures[0])
            return {"file": file, "seed": result.seeds[0], "warnings": warnings}
        return {
            "created": int(time.time()),
            "data": [{"b64_json": self.as_text(picture)} for picture in result.pictures],
            **self.common(result.pictures[0]),
            "usage": _usage(result, self.form.prompt, pictures),
            "safety_identifier": self.form.safety_identifier or self.form.user,
            "seeds": list(result.seeds),
            "warnings": warnings,
            "safety": verdicts(result),
        }

    def response(self, answer: Mapping[str, Any]) -> Response:
        """The answer over HTTP."""
        if not self.is_bare:
            return JSONResponse(answer)
        headers = {
            SEED_HEADER: str(answer["seed"]),
            WARNINGS_HEADER: json.dumps(answer["warnings"]),
        }
        return Response(answer["file"], 200, headers, f"image/{self.form.output_format}")

    def partial(self, picture: Picture, index: int) -> str:
        """The event of an unfinished picture."""
        data = {"b64_json": self.as_text(picture), "partial_image_index": index}
        return _event("partial_image", data, self.common(picture))


def last_events(answer: Mapping[str, Any]) -> list[str]:
    """The last events of an answer, one for each picture."""
    common = {name: answer[name] for name in _COMPLETED}
    return [_event("completed", image, common) for image in answer["data"]]


def _event(name: str, *parts: Mapping[str, Any]) -> str:
    data: dict[str, Any] = {"type": f"image_edit.{name}", "created_at": int(time.time())}
    for part in parts:
        data |= part
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


def _bare_format(accept: str) -> str | None:
    """The format of the bare picture that a client prefers to JSON; None = it does not."""
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind in _MEDIA_TYPES:
            return _MEDIA_TYPES[kind]
        if kind in _OTHER_MEDIA_TYPES:
            return None
    return None


def _usage(result: EditResult, prompt: str, pictures: int) -> dict[str, Any]:
    """Words, and patches of 16 x 16 pixels: for accounting, not OpenAI's own tokens."""
    width, height = result.pictures[0].size
    patches = -(-width * height // TOKEN_PIXELS)
    input_patches = patches * pictures
    output_patches = patches * len(result.pictures)
    words = len(prompt.split())
    return {
        "input_tokens": words + input_patches,
        "input_tokens_details": {"text_tokens": words, "image_tokens": input_patches},
        "output_tokens": output_patches,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": output_patches},
        "total_tokens": words + input_patches + output_patches,
    }

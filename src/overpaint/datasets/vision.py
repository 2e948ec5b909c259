"""A vision model behind an OpenAI-compatible API: what is in a picture, and is this true of it.

Answers are asked for as JSON by a schema and checked against it. What goes wrong has a name
(`VisionFailed.fault`), so that a picture that was not looked at says why.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from overpaint.core.errors import OverpaintError
from overpaint.core.imaging import images
from overpaint.core.imaging.detections import Detection
from overpaint.core.imaging.images import Picture
from overpaint.datasets.recipes.sections import Vision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openai import OpenAI

Fault = Literal["timeout", "unreachable", "busy", "refused", "unreadable", "denied"]

MOST_OBJECTS = 100
LONGEST_ANSWER = 4000  # tokens


class VisionFailed(OverpaintError):
    """The vision model gave no answer that can be used.

    Attributes:
        fault: 'timeout', 'unreachable' (or a server error), 'busy', 'refused' (it would not say),
            'unreadable' (no JSON of the schema), 'denied' (key, model or request refused).
    """

    code: ClassVar[str] = "vision_failed"

    def __init__(self, message: str, *, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Object(_Answer):
    label: str
    confidence: Annotated[float, Field(ge=0, le=1)]
    box: list[float]


class _Objects(_Answer):
    objects: list[_Object]


class _Truth(_Answer):
    true: bool
    score: Annotated[float, Field(ge=0, le=1)]


_A = TypeVar("_A", bound=_Answer)

_BOXES = {
    "shares": "left, top, right, bottom, each from 0 to 1 as a share of width or height",
    "pixels": "left, top, right, bottom in pixels",
    "yxyx1000": "top, left, bottom, right in thousandths of height and width",
}


class VisionModel:
    """Asks the model of a recipe. Safe to use from several threads.

    Args:
        section: where it is and how it answers.
        key: for the server; None = it needs none.
    """

    def __init__(self, section: Vision, key: str | None = None) -> None:
        import openai

        self._section = section
        # The client repeats timeouts, busy answers and server errors by itself.
        self._client: OpenAI = openai.OpenAI(
            base_url=section.base_url,
            api_key=key or "none",
            timeout=section.timeout_s,
            max_retries=section.retries,
        )

    def find(self, picture: Picture, labels: Sequence[str]) -> list[Detection]:
        """Which of the labels are in the picture, and where.

        Returns:
            Detections with the labels as they were asked for; boxes in the picture's pixels.

        Raises:
            VisionFailed: see its `fault`.
        """
        listed = "\n".join(f"- {label}" for label in labels)
        shown = self._shown(picture)
        words = (
            "Which of the following are in the picture? List each thing that is really there, "
            f"with the label exactly as written here:\n{listed}\n"
            f"Give each a box: {_BOXES[self._section.boxes]}. Leave out what is not there."
        )
        answer = self._ask(shown, words, _Objects)
        detections = [self._detection(each, shown.size, picture.size) for each in answer.objects]
        return [each for each in detections[:MOST_OBJECTS] if each.label in labels]

    def is_true(self, picture: Picture, statement: str) -> tuple[bool, float]:
        """Whether the picture shows what the words say, and how well (0..1).

        Raises:
            VisionFailed: see its `fault`.
        """
        words = (
            f"Does the picture show this: {statement}? Answer 'true' or not, and give a score "
            "from 0 (not at all) to 1 (clearly, without faults)."
        )
        answer = self._ask(self._shown(picture), words, _Truth)
        return answer.true, answer.score

    def _shown(self, picture: Picture) -> Image.Image:
        shown = picture.to_srgb().copy()
        shown.thumbnail((self._section.longest_side, self._section.longest_side))
        return shown

    def _ask(self, shown: Image.Image, words: str, kind: type[_A]) -> _A:
        """An answer of that kind; unreadable ones are asked for again."""
        for attempt in range(self._section.retries + 1):
            try:
                return self._ask_once(shown, words, kind)
            except VisionFailed as error:
                if error.fault != "unreadable" or attempt == self._section.retries:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _ask_once(self, shown: Image.Image, words: str, kind: type[_A]) -> _A:
        choice = self._complete(shown, words, kind)
        refusal = getattr(choice.message, "refusal", None)
        if refusal or choice.finish_reason == "content_filter":
            raise VisionFailed(
                f"the vision model would not answer: {str(refusal or 'filtered')[:200]}",
                fault="refused",
            )
        try:
            return kind.model_validate_json(choice.message.content or "")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            said = (choice.message.content or "nothing")[:80]
            raise VisionFailed(
                f"the vision model's answer is not of the schema ({first['msg']}): {said!r}",
                fault="unreadable",
            ) from error

    def _complete(self, shown: Image.Image, words: str, kind: type[_A]) -> Any:
        import openai

        data = base64.b64encode(images.encode(Picture(shown))).decode()
        content = [
            {"type": "text", "text": words},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        ]
        form = {
            "name": kind.__name__.strip("_").lower(),
            "strict": True,
            "schema": kind.model_json_schema(),
        }
        payload: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            "response_format": {"type": "json_schema", "json_schema": form},
            "temperature": 0,
            "seed": 0,
            "max_tokens": LONGEST_ANSWER,
        }
        try:
            answer = self._client.chat.completions.create(model=self._section.model, **payload)
        except openai.OpenAIError as error:
            raise _failed(error, self._section) from error
        if not answer.choices:
            raise VisionFailed("the vision model's answer is empty", fault="unreadable")
        return answer.choices[0]

    def _detection(
        self, thing: _Object, shown: tuple[int, int], size: tuple[int, int]
    ) -> Detection:
        if len(thing.box) != 4:
            raise VisionFailed(
                f"the vision model gave a box of {len(thing.box)} numbers", fault="unreadable"
            )
        first, second, third, fourth = thing.box
        if self._section.boxes == "yxyx1000":
            first, second, third, fourth = (x / 1000 for x in (second, first, fourth, third))
        elif self._section.boxes == "pixels":
            first, third = first / shown[0], third / shown[0]
            second, fourth = second / shown[1], fourth / shown[1]
        left, right = (min(max(x, 0.0), 1.0) * size[0] for x in (first, third))
        top, bottom = (min(max(y, 0.0), 1.0) * size[1] for y in (second, fourth))
        if right - left < 1 or bottom - top < 1:
            raise VisionFailed(
                f"the vision model gave the box {thing.box}, which has no area; see `boxes` of "
                "the recipe for how this model counts",
                fault="unreadable",
            )
        return Detection(
            box=(left, top, right, bottom), label=thing.label, confidence=thing.confidence
        )


def _failed(error: Exception, section: Vision) -> VisionFailed:
    """What the client raised, in our words. The server's own words may hold anything: cut."""
    import openai

    fault: Fault = "denied"
    if isinstance(error, openai.APITimeoutError):
        fault, what = "timeout", f"no answer within {section.timeout_s:g} s"
    elif isinstance(error, openai.APIConnectionError):
        fault, what = "unreachable", f"{section.base_url} cannot be reached"
    elif isinstance(error, openai.RateLimitError):
        fault, what = "busy", "it has too many requests"
    elif isinstance(error, openai.APIStatusError) and error.status_code >= 500:
        fault, what = "unreachable", f"server error {error.status_code}"
    elif isinstance(error, openai.APIStatusError):
        what = f"it refused the request ({error.status_code}): {error.message[:200]}"
    else:
        fault, what = "unreadable", f"{type(error).__name__}: {str(error)[:200]}"
    return VisionFailed(
        f"the vision model failed after {section.retries} retries: {what}", fault=fault
    )

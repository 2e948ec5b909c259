"""What the tools do: edits as any other server's, under its limits and its safety policy."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent
from PIL import Image

from overpaint.apps.mcp.folder import Folder
from overpaint.apps.mcp.tools import Arguments, SegmentArguments, VerifyArguments
from overpaint.apps.server.bodies.answers import verdicts
from overpaint.apps.server.jobs import EditJob
from overpaint.apps.server.protocols.segments import Desk, hints_of, known_model
from overpaint.apps.server.service import EditService
from overpaint.apps.wire.intake import EncodedEdit, image_limits
from overpaint.apps.wiring.models import segmentation
from overpaint.core.errors import InvalidRequest, OutputError
from overpaint.core.imaging import images
from overpaint.core.imaging.encoded import from_base64
from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS, EditResult
from overpaint.provenance import origins

OnStep = Callable[[int, int], Awaitable[None]]
"""Called with the number of steps done, and how many there are."""

CALLER = "mcp"
TICK = 5.0
PREVIEW = 1024
"""Longer side of the picture in an answer whose picture itself is in a file."""

_DATA = "data:"


class Door:
    """The tools of one assistant.

    Args:
        service: makes the edits.
        folder: whose files may be named; None = pictures come as data URLs alone.
    """

    def __init__(self, service: EditService, folder: Folder | None) -> None:
        self._service = service
        self._folder = folder
        self._desk = Desk()

    def close(self) -> None:
        """End its thread."""
        self._desk.close()

    async def edit(self, arguments: Arguments, on_step: OnStep) -> CallToolResult:
        """Make an edit."""
        return await self._edit(arguments, None, on_step)

    async def erase(self, arguments: Arguments, on_step: OnStep) -> CallToolResult:
        """Make an edit with the eraser."""
        return await self._edit(arguments, self._service.settings.defaults.erase, on_step)

    async def extend(self, arguments: Arguments, on_step: OnStep) -> CallToolResult:
        """Make a picture larger."""
        if getattr(arguments, "extend", None) is None:
            raise InvalidRequest(
                "say how much to add: left, top, right, bottom, or the ratio `to`", field="extend"
            )
        return await self._edit(arguments, None, on_step)

    async def _edit(
        self, arguments: Arguments, default: str | None, on_step: OnStep
    ) -> CallToolResult:
        service = self._service
        values = await service.work(self._values, arguments)
        names = await service.work(self._free_names, arguments.output, values["num_images"])
        edit = EncodedEdit(values=values)
        served = service.resolve(values["model"] or default, edit.task)
        checked = await service.check(edit, served)
        if names:
            _check_fits(checked.request.image, names[0])
        job = service.accept(checked, CALLER, partial(self._answer, names))
        return await _follow(service, job, on_step)

    async def segment(self, arguments: SegmentArguments, _: OnStep) -> CallToolResult:
        """Find a thing."""
        service, settings = self._service, self._service.settings
        hints = hints_of(arguments)
        encoded = await service.work(self._file, arguments.image, "image")
        picture = await service.picture(encoded)
        hints.check(picture.size)
        names = await service.work(self._free_names, arguments.output, 1)
        name = arguments.model or segmentation.default_model(hints, settings)
        mask = await self._desk.find(picture, hints, known_model(name, settings), settings)
        return await service.work(self._mask_answer, names, mask)

    async def verify(self, arguments: VerifyArguments, _: OnStep) -> CallToolResult:
        """What a picture says about its making."""
        encoded = await self._service.work(self._file, arguments.image, "image")
        picture = await self._service.picture(encoded)
        trust = self._service.settings.provenance.trust
        facts = await self._service.work(origins.facts, picture, trust)
        return _result([], facts)

    def _values(self, arguments: Arguments) -> dict[str, Any]:
        """The parts by name, pictures as their files."""
        values = {part.name: getattr(arguments, part.name, None) for part in PARTS}
        for part in PARTS:
            value = values[part.name]
            if part.is_visual and value:
                several = part.kind == "pictures"
                files = [self._file(each, part.name) for each in (value if several else [value])]
                values[part.name] = tuple(files) if several else files[0]
        return values

    def _file(self, text: str, field: str) -> bytes:
        """The picture that an argument names or is."""
        if text[: len(_DATA)].lower() == _DATA:
            return from_base64(text, field)
        if self._folder is None:
            raise InvalidRequest(
                "this server has no folder, so it opens no files; send a data URL "
                "(data:image/png;base64,…), or start it with --folder",
                field=field,
            )
        return self._folder.read(text, field, image_limits(self._service.limits).max_bytes)

    def _free_names(self, output: str | None, count: int) -> list[str]:
        if output is None:
            return []
        if self._folder is None:
            raise OutputError(
                "this server has no folder, so it writes no files; leave it out, or start "
                "it with --folder",
                field="output",
            )
        return self._folder.free_names(output, count, "output")

    def _answer(self, names: list[str], result: EditResult) -> CallToolResult:
        for name, picture in zip(names, result.pictures, strict=False):
            self._write(name, images.encode(picture, images.format_of(name)))
        contents = [
            _content(_preview(each.to_srgb()) if names else images.encode(each))
            for each in result.pictures
        ]
        facts: dict[str, Any] = {
            "seeds": list(result.seeds),
            "warnings": list(result.warnings),
            "safety": verdicts(result),
        }
        return _result(contents, {**facts, "files": names} if names else facts)

    def _mask_answer(self, names: list[str], mask: bytes) -> CallToolResult:
        if not names:
            return _result([_content(mask)], {})
        image = Image.open(io.BytesIO(mask))
        self._write(names[0], images.encode(Picture.from_pil(image), images.format_of(names[0])))
        return _result([_content(_preview(image))], {"files": names})

    def _write(self, name: str, encoded: bytes) -> None:
        assert self._folder is not None
        self._folder.write(name, encoded, "output")


def _check_fits(picture: Picture, name: str) -> None:
    """Refuse before anything is made what the output's format cannot hold."""
    try:
        images.check_fits(picture, images.format_of(name))
    except InvalidRequest as error:
        raise OutputError(error.message, field="output") from error


async def _follow(
    service: EditService, job: EditJob[CallToolResult], on_step: OnStep
) -> CallToolResult:
    """The answer of an edit; a call that is cancelled cancels it."""
    try:
        async for news in job.news(TICK):
            if news is not None:
                await on_step(news.update.step, news.update.total)
        await asyncio.wait({job.answer})
        return job.answer.result()
    finally:
        service.cancel(job)


def _preview(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((PREVIEW, PREVIEW))
    return images.encode(Picture.from_pil(small))


def _content(png: bytes) -> ImageContent:
    return ImageContent(data=base64.b64encode(png).decode(), mime_type="image/png")


def _result(pictures: list[ImageContent], facts: dict[str, Any]) -> CallToolResult:
    text = TextContent(text=json.dumps(facts, ensure_ascii=False, default=str))
    content: list[ContentBlock] = [*pictures, text]
    return CallToolResult(content=content, structured_content=json.loads(text.text))

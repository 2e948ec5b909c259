"""Files of a session: the pictures of its turns, and the whole of it as one archive."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator
from typing import IO, Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from overpaint.apps.server.bodies import forms
from overpaint.apps.server.bodies.session_schemas import PREFIX, SessionInfo
from overpaint.apps.server.errors import NotFound
from overpaint.apps.server.routes import require_type, service_of
from overpaint.apps.server.shelf import FEW, answer, session_of, sessions_of, shelf_of
from overpaint.apps.wire.cost import Cost
from overpaint.apps.wire.intake import MEGA
from overpaint.core.imaging import images
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.imaging.images import Format, ImageLimits, Picture
from overpaint.sessions import archive
from overpaint.sessions.types import INPUTS, Session

router = APIRouter(prefix=PREFIX, tags=["sessions"])

_MEDIA_TYPES: dict[Format, str] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_FORMATS: dict[FileFormat | None, Format] = {"JPEG": "JPEG", "WEBP": "WEBP"}
"""Of files that are written as they came; all others become PNG."""

ARCHIVE = "application/zip"
UNPACKED = 4
"""Times the limit of a body that an archive may have unpacked."""

_HEADERS = {
    "cache-control": "private, max-age=31536000, immutable",
    "x-content-type-options": "nosniff",
}
_CHUNK = 2**20
_IN_MEMORY = 32 * 2**20
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _picture_route(name: str, kind: str) -> None:
    """A route for one of a turn's pictures."""

    @router.get(
        f"/{{id}}/turns/{{turn}}/{name}",
        name=f"get_{name}",
        response_class=Response,
        responses={
            **FEW,
            200: {
                "description": f"the turn's {name}",
                "content": {kind: _BINARY},
            },
            304: {"description": "as it was"},
        },
    )
    async def get_picture(
        request: Request,
        id: str,  # noqa: A002 - the path's word
        turn: str,
    ) -> Response:
        session = await session_of(request, id)
        key = getattr(session.turn(turn), name)
        if key is None:
            raise NotFound(f"this turn has no {name}")
        return await _file(request, key, kind)

    get_picture.__doc__ = f"A turn's {name}."


for _name, _kind in (("picture", "image/png"), ("thumbnail", "image/webp"), ("mask", "image/png")):
    _picture_route(_name, _kind)


@router.get(
    "/{id}/turns/{turn}/download",
    response_class=Response,
    responses={
        **FEW,
        200: {
            "description": "the picture; `x-overpaint-psnr` says how close a JPEG is to it, in dB",
            "content": dict.fromkeys(sorted(_MEDIA_TYPES.values()), _BINARY),
        },
    },
)
async def get_download(
    request: Request,
    id: str,  # noqa: A002 - the path's word
    turn: str,
    format: Annotated[Format | None, Query()] = None,  # noqa: A002 - as above
) -> Response:
    """A turn's picture as a file, in the original's format unless another one is named.

    JPEG has quality 95, WebP keeps every pixel. A format that is read but not written, such as
    HEIC, becomes PNG.
    """
    session = await session_of(request, id)
    key, own = session.turn(turn).picture, session.turns[0].format
    file_format = format or _FORMATS.get(own, "PNG")

    def pack() -> tuple[bytes, dict[str, str]]:
        pictures = shelf_of(request).open()[0].pictures
        if file_format == "PNG":
            return pictures.get(key), {}
        picture = pictures.picture(key)
        encoded = images.encode(picture, file_format)
        return encoded, _loss(picture, encoded) if file_format == "JPEG" else {}

    file, headers = await service_of(request).work(pack)
    return Response(file, media_type=_MEDIA_TYPES[file_format], headers=headers)


def _loss(picture: Picture, encoded: bytes) -> dict[str, str]:
    """What a file kept of a picture."""
    pixels = (np.asarray(each.rgb, np.float32) for each in (picture, images.decode(encoded)))
    error = float(np.mean(np.square(np.subtract(*pixels))))
    decibels = 99.0 if error == 0 else min(99.0, 10 * math.log10(255**2 / error))
    return {"x-overpaint-psnr": f"{decibels:.1f}"}


@router.get(
    "/{id}/turns/{turn}/inputs/{part}",
    response_class=Response,
    responses={
        **FEW,
        200: {"description": "the picture or mask", "content": {"image/png": _BINARY}},
        304: {"description": "as it was"},
    },
)
async def get_input(
    request: Request,
    id: str,  # noqa: A002 - the path's word
    turn: str,
    part: str,
    number: Annotated[int, Query(ge=0, le=1000)] = 0,
) -> Response:
    """A picture or mask that was an input of a turn's edit, besides the picture that it edited."""
    session = await session_of(request, id)
    stored = session.turn(turn)
    files = [key for each in INPUTS if each.name == part for key in stored.files_of(each)]
    if number >= len(files):
        raise NotFound(f"this turn has no input '{part[:40]}' with the number {number}")
    return await _file(request, files[number], "image/png")


async def _file(request: Request, key: str, kind: str) -> Response:
    """One of the store's files, which never change."""
    headers = {**_HEADERS, "etag": f'"{key}"'}
    if key in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)

    def read() -> bytes:
        return shelf_of(request).open()[0].pictures.get(key)

    return Response(await service_of(request).work(read), media_type=kind, headers=headers)


@router.get(
    "/{id}/export",
    response_class=StreamingResponse,
    responses={**FEW, 200: {"description": "the archive", "content": {ARCHIVE: _BINARY}}},
)
async def get_export(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """A session as a ZIP of its pictures and `session.json`."""
    session = await session_of(request, id)

    def pack() -> IO[bytes]:
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed when it is sent
        try:
            archive.export(shelf_of(request).open()[0], session, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    file = await service_of(request).work(pack)
    name = f'attachment; filename="{session.id}.zip"'
    return StreamingResponse(
        _chunks(file), media_type=ARCHIVE, headers={"content-disposition": name}
    )


@router.post(
    "/import",
    status_code=201,
    response_model=SessionInfo,
    responses=FEW,
    openapi_extra={"requestBody": {"required": True, "content": {ARCHIVE: _BINARY}}},
)
async def post_import(request: Request) -> Response:
    """Begin a session from an archive; its pictures are checked as an edit's are."""
    service = service_of(request)
    service.check_running()
    require_type(request, ARCHIVE)
    raw = await forms.body(request)
    server = service.limits

    def limits(picture: ImageLimits) -> archive.ArchiveLimits:
        unpacked = int(UNPACKED * server.max_body_mb * MEGA)
        return archive.ArchiveLimits(bytes=unpacked, picture=picture, prompt=server.max_prompt)

    def measure(picture: ImageLimits) -> Cost:
        return Cost(megapixels=archive.pixels(io.BytesIO(raw), limits(picture)) / MEGA)

    def unpack(picture: ImageLimits) -> Session:
        return sessions_of(request).load(io.BytesIO(raw), limits(picture))

    service.accounts.hold(await service.decoding.run_archive(measure), archive.FIELD)
    return answer(await service.decoding.run_archive(unpack), 201)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk

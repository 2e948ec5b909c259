"""`POST /v1/segments`: a mask from points, a box or words."""

from __future__ import annotations

import io
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from overpaint.apps.server.bodies.fields import contents
from overpaint.apps.server.bounds.lanes import Lane, watched
from overpaint.apps.server.routes import ERRORS, body_with_files, service_of
from overpaint.apps.settings import Settings
from overpaint.apps.wire.examples import PICTURE
from overpaint.apps.wiring.models import catalogue, segmentation
from overpaint.core.errors import InvalidMask, InvalidRequest, ModelNotFound
from overpaint.core.imaging import detections
from overpaint.core.imaging.images import Picture
from overpaint.segmenters.segmenter import Hints, Point, Rectangle

router = APIRouter(prefix="/v1", tags=["segments"])

MAX_WAITING = 8
"""Requests that may wait for the one that is being looked at, half of them of one key; more get
429."""

MAX_POINTS = 64
MAX_WORDS = 500

Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]


class PointBody(BaseModel):
    """A place, in pixels of the upright picture."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    x: Coordinate
    y: Coordinate
    inside: bool = Field(default=True, description="False: this place is not part of the thing.")


class SegmentBody(BaseModel):
    """What to find: points of one thing, a box around it, or words."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"image": PICTURE, "box": [4, 4, 12, 12]}]},
    )

    image: str = Field(description="The picture, base64 of a picture file.")
    points: list[PointBody] = Field(default_factory=list, max_length=MAX_POINTS)
    box: list[Coordinate] | None = Field(
        default=None, min_length=4, max_length=4, description="Left, top, right, bottom, in pixels."
    )
    text: str | None = Field(
        default=None, max_length=MAX_WORDS, description="What to look for, in words."
    )
    model: str | None = Field(
        default=None,
        max_length=100,
        description="`grabcut`, or a segmentation model that this machine has pulled.",
    )


class Desk:
    """Looks at one picture at a time; few may wait."""

    def __init__(self) -> None:
        self._lane = Lane("segments", 1, 1, MAX_WAITING)

    async def find(self, picture: Picture, hints: Hints, model: str, settings: Settings) -> bytes:
        """The mask's PNG file.

        Raises:
            InvalidRequest: the hints do not fit the picture, or no thing is found.
            ModelLoadError: the model is not what it should be.
            Overloaded: too many wait already.
            Cancelled: the caller disconnected.
        """
        return await watched(self._lane, partial(_mask, picture, hints, model, settings))

    def close(self) -> None:
        """End its thread."""
        self._lane.pool.shutdown()


@router.post(
    "/segments",
    response_class=Response,
    responses={
        **{status: about for status, about in ERRORS.items() if status not in (409, 504)},
        200: {
            "description": "the mask, of the picture's size: white = found",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": contents(SegmentBody),
        }
    },
)
async def post_segment(request: Request) -> Response:
    """Find a thing in a picture: its mask as a PNG file."""
    service = service_of(request)
    service.check_running()
    body, files = await body_with_files(request, SegmentBody)
    picture = await service.picture(files.get("image", body.image))
    hints = hints_of(body)
    hints.check(picture.size)
    model = known_model(
        body.model or segmentation.default_model(hints, service.settings), service.settings
    )
    desk: Desk = request.app.state.desk
    return Response(
        await desk.find(picture, hints, model, service.settings), media_type="image/png"
    )


def hints_of(body: SegmentBody) -> Hints:
    """The model, and the hints on what to find.

    Raises:
        InvalidRequest: the body does not say.
    """
    if not body.points and body.box is None and body.text is None:
        raise InvalidRequest("give points, a box or text", field="body")
    boxes: tuple[Rectangle, ...] = ()
    if body.box is not None:
        left, top, right, bottom = body.box
        boxes = ((left, top, right, bottom),)
    points = tuple(Point(each.x, each.y, each.inside) for each in body.points)
    return Hints(points=points, boxes=boxes, words=body.text)


def known_model(name: str, settings: Settings) -> str:
    """The model's name, if all its parts are on this machine: a request opens no path.

    Raises:
        ModelNotFound: they are not.
    """
    parts = name.split(segmentation.JOINT)
    models = segmentation.SEGMENTERS
    for part in parts:
        if part not in models or catalogue.state(models[part], settings) != "ready":
            ready = ", ".join(
                each for each in models if catalogue.state(models[each], settings) == "ready"
            )
            raise ModelNotFound(
                f"there is no segmentation model '{part}' on this server; there is {ready}",
                field="model",
            )
    return name


def _mask(picture: Picture, hints: Hints, model: str, settings: Settings) -> bytes:
    things = segmentation.segment(picture, hints, model=model, settings=settings)
    some = [each for each in things if each.mask is None or each.mask.any()]
    if not some:
        what = f"'{hints.words}'" if hints.words else "a thing there"
        raise InvalidMask(f"{what} was not found; give other hints", field="mask")
    file = io.BytesIO()
    detections.union(some, picture.size, field="mask").save(file, "PNG")
    return file.getvalue()

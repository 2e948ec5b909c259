"""Results and states of edits as clients see them."""

from __future__ import annotations

import base64
from typing import Any

from PIL import ImageChops

from overpaint.apps.server import errors
from overpaint.apps.server.bodies.schemas import EditState, ErrorDetail
from overpaint.apps.server.jobs import EditJob
from overpaint.apps.server.service import EditService
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditResult


def encode(result: EditResult) -> dict[str, Any]:
    """The answer's fields, pictures as base64 of PNG."""
    return {
        "status": "done",
        "images": [encoded(picture) for picture in result.pictures],
        "seeds": list(result.seeds),
        "recipe": dict(result.recipe),
        "timings": dict(result.timings),
        "warnings": list(result.warnings),
        "safety": verdicts(result),
    }


def encoded(picture: Picture) -> str:
    """base64 of a PNG file."""
    return base64.b64encode(images.encode(picture)).decode()


def changed_part(before: Picture, after: Picture) -> dict[str, Any] | None:
    """What an edit changed, as base64 of PNG, and where; None = the pictures differ in size."""
    if before.size != after.size:
        return None
    left, top, right, bottom = ImageChops.difference(before.rgb, after.rgb).getbbox() or (
        0,
        0,
        1,
        1,
    )
    box = (left, top, right, bottom)
    part = Picture(
        after.rgb.crop(box),
        None if after.alpha is None else after.alpha.crop(box),
        after.icc_profile,
    )
    return {"image": encoded(part), "left": left, "top": top}


def verdicts(result: EditResult) -> list[dict[str, Any]] | None:
    """What the safety policy found, as plain data; None = nothing was checked."""
    return None if result.safety is None else [each.as_json() for each in result.safety]


def state_of(service: EditService, job: EditJob[Any]) -> EditState:
    """Where an edit stands."""
    state = EditState(id=job.id, status=job.status)
    if job.status == "queued":
        state.position = service.position(job)
    if job.latest is not None:
        state.step, state.total = job.latest.step, job.latest.total
    if job.status == "failed":
        error = job.answer.exception()
        assert error is not None
        state.error = ErrorDetail(**errors.native(error))
    return state

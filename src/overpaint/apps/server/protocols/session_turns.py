"""`POST /v1/sessions/{id}/turns`: one more turn, made as any other edit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from overpaint.apps.server import repeats
from overpaint.apps.server.bodies.answers import state_of, verdicts
from overpaint.apps.server.bodies.session_schemas import (
    PREFIX,
    TurnAccepted,
    TurnAnswer,
    TurnBody,
    TurnInfo,
)
from overpaint.apps.server.jobs import EditJob
from overpaint.apps.server.logs import report
from overpaint.apps.server.routes import ERRORS, body_with_files, service_of
from overpaint.apps.server.service import Accepted, EditService
from overpaint.apps.server.shelf import IF_MATCH, documented, revision_of, sessions_of, shelf_of
from overpaint.apps.wire.intake import EncodedEdit
from overpaint.core.errors import InvalidRequest, OverpaintError
from overpaint.core.types import EditResult
from overpaint.sessions.editing import Start
from overpaint.sessions.editor import Sessions
from overpaint.sessions.types import Session, Turn

router = APIRouter(prefix=PREFIX, tags=["sessions"])

_log = logging.getLogger(__name__)


@router.post(
    "/{id}/turns",
    response_model=TurnAnswer,
    responses={202: {"model": TurnAccepted, "description": "accepted"}, **ERRORS},
    openapi_extra=documented(TurnBody, IF_MATCH, repeats.DOCUMENTED),
)
async def post_turn(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Make another turn; follow its edit like any other."""
    service = service_of(request)
    service.check_room()
    body, files = await body_with_files(request, TurnBody)
    revision = revision_of(request, body)
    if revision is None:
        raise InvalidRequest(
            "say which revision of the session you know, here or as If-Match", field="revision"
        )
    sessions = await service.work(sessions_of, request)
    place = (id, revision, body.parent, body.from_original)
    values = await service.read(partial(body.part_values, **files))
    async with repeats.claimed(request, "turn", place, values) as claim:
        job = claim.job()
        if job is None:
            job = await _accepted(request, sessions, id, body, values, revision)
            claim.keep(job)
    request.state.edit, request.state.model = job.id, job.model
    if not (body.run_async and service.alone):
        answer = await service.wait(job, request, keep=claim.has_key)
        return JSONResponse({"id": job.id, **answer})
    service.jobs.add(job)
    accepted = state_of(service, job).model_dump(exclude_none=True)
    accepted |= {"session": id, "revision": revision + 1}
    return JSONResponse(accepted, 202, {"location": f"/v1/edits/{job.id}"})


async def _accepted(
    request: Request,
    sessions: Sessions,
    id_: str,
    body: TurnBody,
    values: Mapping[str, Any],
    revision: int,
) -> EditJob[dict[str, Any]]:
    """The turn's edit, accepted; until it ends the session is at the next revision.

    An edit that fails, or is not even accepted, leaves the session as it was.
    """
    service, lane = service_of(request), shelf_of(request).turns
    start, checked = await _checked(service, sessions, id_, body, values, revision)
    start = await service.work(sessions.reserve, start, checked.request.num_images)
    release = partial(_release, sessions, start)

    def record(result: EditResult) -> dict[str, Any]:
        measure_now = not body.measure_later
        session, turns = sessions.record(start, checked.request, result, measure_now=measure_now)
        if not measure_now:
            shelf_of(request).later(partial(sessions.measure, session, turns))
        return _answer(session, turns, result)

    try:
        return service.accept(checked, request.state.caller, record, lane, release)
    except BaseException:
        await service.work(release)
        raise


def _release(sessions: Sessions, start: Start) -> None:
    try:
        sessions.release(start)
    except OverpaintError as error:
        report(_log, "cannot undo the start of a turn that failed", error)


async def _checked(
    service: EditService,
    sessions: Sessions,
    id_: str,
    body: TurnBody,
    values: Mapping[str, Any],
    revision: int,
) -> tuple[Start, Accepted]:
    """What the turn starts from, and its edit, checked as any other."""

    def begin() -> tuple[Start, EncodedEdit]:
        start = sessions.start(
            id_,
            values["prompt"],
            parent=body.parent,
            from_original=body.from_original,
            revision=revision,
        )
        picture = sessions.picture(start.base)
        return start, EncodedEdit(values=start.parts(values, picture), fit_mask=body.fit_mask)

    start, edit = await service.work(begin)
    served = service.resolve(edit.values.get("model"), edit.task)
    accepted = await service.check(edit, served, seconds=body.timeout_s, previews=body.previews)
    request = sessions.with_earlier_runs(start, accepted.request)
    return start, replace(accepted, edit=replace(accepted.edit, request=request))


def _answer(session: Session, turns: Sequence[Turn], result: EditResult) -> dict[str, Any]:
    """The answer's fields, once the turns are in the session; the best turn comes first."""
    return {
        "status": "done",
        "session": session.id,
        "revision": session.revision,
        "turn": TurnInfo.of(session.id, turns[0]).model_dump(),
        "candidates": [turn.id for turn in turns],
        "images": [],
        "seeds": [turn.seed for turn in turns],
        "recipe": dict(turns[0].recipe),
        "timings": dict(result.timings),
        "warnings": list(turns[0].warnings),
        "safety": verdicts(result),
    }

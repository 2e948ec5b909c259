"""`/v1/sessions`: editing turn after turn, with undo, branches and measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from overpaint.apps.server.bodies.session_schemas import (
    PREFIX,
    Change,
    ComparisonInfo,
    NewHead,
    NewName,
    NewSession,
    SessionInfo,
    SessionList,
    SessionSummary,
    TurnInfo,
    TurnMark,
)
from overpaint.apps.server.routes import body_with_files, json_body, service_of
from overpaint.apps.server.shelf import (
    FEW,
    IF_MATCH,
    answer,
    documented,
    revision_of,
    session_of,
    sessions_of,
    shelf_of,
)
from overpaint.sessions.store import Store
from overpaint.sessions.types import Session, Turn

router = APIRouter(prefix=PREFIX, tags=["sessions"])


@router.post(
    "",
    status_code=201,
    response_model=SessionInfo,
    responses=FEW,
    openapi_extra=documented(NewSession),
)
async def post_session(request: Request) -> Response:
    """Begin a session with a picture."""
    service = service_of(request)
    service.check_running()
    body, files = await body_with_files(request, NewSession)
    picture = await service.picture(files.get("image", body.image))

    def create(stop: Callable[[], None]) -> Session:
        return sessions_of(request, stop).new(picture, body.name)

    session = await shelf_of(request).checked(create)
    # The first edit finds it decoded.
    shelf_of(request).later(partial(_open_original, request, session))
    return answer(session, 201)


def _open_original(request: Request, session: Session) -> None:
    sessions_of(request).picture(session.turns[0])


@router.get("", response_model=SessionList, responses=FEW)
async def get_sessions(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> SessionList:
    """The caller's sessions."""

    def find() -> SessionList:
        store, _ = shelf_of(request).open()
        summaries = store.summaries(request.state.caller, limit=limit, offset=offset)
        return SessionList(data=[SessionSummary.of(each) for each in summaries])

    return await service_of(request).work(find)


@router.get("/{id}", response_model=SessionInfo, responses=FEW)
async def get_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """A session with all its turns."""
    return answer(await session_of(request, id))


@router.patch(
    "/{id}",
    response_model=SessionInfo,
    responses=FEW,
    openapi_extra=documented(NewName, IF_MATCH),
)
async def patch_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Rename a session."""
    return await _changed(
        request,
        NewName,
        lambda store, body, revision, caller: store.rename(id, body.name, revision, caller),
    )


@router.delete("/{id}", status_code=204, responses=FEW, openapi_extra={"parameters": [IF_MATCH]})
async def delete_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Delete a session and its pictures."""
    revision, caller = revision_of(request, None), request.state.caller

    def delete() -> None:
        store, _ = shelf_of(request).open()
        store.delete(id, revision, caller)
        store.collect()

    await service_of(request).work(delete)
    return Response(status_code=204)


@router.post(
    "/{id}/head",
    response_model=SessionInfo,
    responses=FEW,
    openapi_extra=documented(NewHead, IF_MATCH),
)
async def post_head(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Go to another turn: undo, redo, restore, branch."""
    return await _changed(
        request,
        NewHead,
        lambda store, body, revision, caller: store.move(id, body.turn, revision, caller),
    )


@router.patch(
    "/{id}/turns/{turn}",
    response_model=TurnInfo,
    responses=FEW,
    openapi_extra=documented(TurnMark),
)
async def patch_turn(request: Request, id: str, turn: str) -> Response:  # noqa: A002 - as above
    """Keep a candidate visible, or no longer; the session's revision stays."""
    body, caller = await json_body(request, TurnMark), request.state.caller

    def mark() -> Turn:
        store, _ = shelf_of(request).open()
        return store.amend(id, turn, lambda now: replace(now, is_kept=body.is_kept), caller)

    marked = await service_of(request).work(mark)
    return JSONResponse(TurnInfo.of(id, marked).model_dump())


@router.get("/{id}/turns/{a}/compare/{b}", response_model=ComparisonInfo, responses=FEW)
async def get_comparison(
    request: Request,
    id: str,  # noqa: A002 - the path's word
    a: str,
    b: str,
) -> Response:
    """Compare turn `b` with turn `a` by their measures."""

    def compare() -> dict[str, float | None]:
        return sessions_of(request).compare(id, a, b).as_json()

    return JSONResponse(await service_of(request).work(compare))


_Asked = TypeVar("_Asked", bound=Change)


async def _changed(
    request: Request,
    kind: type[_Asked],
    change: Callable[[Store, _Asked, int | None, str], Session],
) -> Response:
    """The session after a change in the store, with the body, the known revision, the caller."""
    body = await json_body(request, kind)
    revision, caller = revision_of(request, body), request.state.caller

    def work() -> Session:
        store, _ = shelf_of(request).open()
        return change(store, body, revision, caller)

    return answer(await service_of(request).work(work))

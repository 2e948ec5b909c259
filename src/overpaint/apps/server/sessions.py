"""`/v1/sessions`: editing turn after turn, with undo, branches and measures."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

from overpaint.apps import sessions as sessions_
from overpaint.apps.server import forms
from overpaint.apps.server.errors import NotFound, Stopping, UnsupportedMediaType
from overpaint.apps.server.intake import MEGA
from overpaint.apps.server.native import ERRORS, parts_of, service_of, state_of
from overpaint.apps.server.service import Checked, Service
from overpaint.apps.server.session_schemas import (
    PREFIX,
    Change,
    ComparisonInfo,
    NewHead,
    NewName,
    NewSession,
    SessionInfo,
    SessionList,
    SessionSummary,
    TurnAccepted,
    TurnAnswer,
    TurnBody,
    TurnInfo,
)
from overpaint.apps.settings import Settings
from overpaint.core import images
from overpaint.core.encoded import from_base64
from overpaint.core.errors import InvalidRequest
from overpaint.core.images import ImageLimits
from overpaint.core.types import EditRequest, EditResult
from overpaint.sessions import editing
from overpaint.sessions.editing import Examiner, Started
from overpaint.sessions.store import Store
from overpaint.sessions.types import Session

router = APIRouter(prefix=PREFIX, tags=["sessions"])

Body = TypeVar("Body", bound=BaseModel)

_REVISION = re.compile(r'(?:W/)?"?(\d{1,18})"?', re.ASCII)
_FOREVER = "private, max-age=31536000, immutable"
_FEW = {status: about for status, about in ERRORS.items() if status not in (429, 504)}
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": 'The revision of the session as the caller knows it: `"7"`.',
}


def _documented(body: type[BaseModel], *parameters: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI of a body that the route reads itself."""
    schema = {"schema": body.model_json_schema()}
    return {
        "requestBody": {"required": True, "content": {"application/json": schema}},
        "parameters": list(parameters),
    }


class Shelf:
    """The server's store of sessions; opened when somebody first asks for one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._open: tuple[Store, Examiner] | None = None

    def open(self) -> tuple[Store, Examiner]:
        """The store, and what measures results. Blocks: call it beside the event loop.

        Raises:
            NotFound: this server keeps no sessions.
            StoreUnavailable, InvalidSettings, ModelLoadError.
        """
        if not self._settings.sessions.enabled:
            raise NotFound("this server keeps no sessions")
        with self._lock:
            if self._open is None:
                store = sessions_.store(self._settings)
                store.collect()
                self._open = store, sessions_.examiner(self._settings)
            return self._open

    def close(self) -> None:
        """Let go of the database."""
        if self._open is not None:
            self._open[0].close()


@router.post(
    "",
    status_code=201,
    response_model=SessionInfo,
    responses=_FEW,
    openapi_extra=_documented(NewSession),
)
async def post_session(request: Request) -> Response:
    """Begin a session with a picture."""
    service, caller = service_of(request), request.state.caller
    body = await _read(request, NewSession)

    def create() -> Session:
        store, _ = _shelf(request).open()
        limits = ImageLimits(
            max_bytes=int(service.limits.max_body_mb * MEGA),
            max_pixels=int(service.limits.max_megapixels * MEGA),
        )
        picture = images.decode(from_base64(body.image, "image"), limits=limits)
        service.batcher.engine.policy.check_request(EditRequest(image=picture))
        return store.create(body.name, editing.original_turn(store.pictures, picture), caller)

    return _answer(await service.work(create), 201)


@router.get("", response_model=SessionList, responses=_FEW)
async def get_sessions(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> SessionList:
    """The caller's sessions."""

    def find() -> SessionList:
        store, _ = _shelf(request).open()
        found = store.summaries(request.state.caller, limit=limit, offset=offset)
        return SessionList(data=[SessionSummary.of(each) for each in found])

    return await service_of(request).work(find)


@router.get("/{id}", response_model=SessionInfo, responses=_FEW)
async def get_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """A session with all its turns."""
    return _answer(await _get(request, id))


@router.patch(
    "/{id}",
    response_model=SessionInfo,
    responses=_FEW,
    openapi_extra=_documented(NewName, _IF_MATCH),
)
async def patch_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Rename a session."""
    body = await _read(request, NewName)
    known, caller = _revision(request, body), request.state.caller

    def rename() -> Session:
        return _shelf(request).open()[0].rename(id, body.name, known, caller)

    return _answer(await service_of(request).work(rename))


@router.delete("/{id}", status_code=204, responses=_FEW, openapi_extra={"parameters": [_IF_MATCH]})
async def delete_session(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Forget a session and its pictures."""
    known, caller = _revision(request, None), request.state.caller

    def delete() -> None:
        store, _ = _shelf(request).open()
        store.delete(id, known, caller)
        store.collect()

    await service_of(request).work(delete)
    return Response(status_code=204)


@router.post(
    "/{id}/head",
    response_model=SessionInfo,
    responses=_FEW,
    openapi_extra=_documented(NewHead, _IF_MATCH),
)
async def post_head(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Stand at another turn: undo, redo, restore, branch."""
    body = await _read(request, NewHead)
    known, caller = _revision(request, body), request.state.caller

    def move() -> Session:
        return _shelf(request).open()[0].move(id, body.turn, known, caller)

    return _answer(await service_of(request).work(move))


@router.post(
    "/{id}/turns",
    response_model=TurnAnswer,
    responses={202: {"model": TurnAccepted, "description": "accepted"}, **ERRORS},
    openapi_extra=_documented(TurnBody, _IF_MATCH),
)
async def post_turn(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Make one more turn; its edit is followed as any other."""
    service, caller = service_of(request), request.state.caller
    service.check_room()
    body = await _read(request, TurnBody)
    known = _revision(request, body)
    if known is None:
        raise InvalidRequest(
            "say which revision of the session you know, here or as If-Match", field="revision"
        )
    store, examiner = await service.work(_shelf(request).open)
    started, checked = await _checked(service, store, id, body, known, caller)
    begun = await service.work(editing.begin, store, started, body.num_images)

    def record(result: EditResult) -> dict[str, Any]:
        return _recorded(store, begun, checked.request, result, examiner)

    job = service.accept(checked, caller, record)
    request.state.edit, request.state.model = job.id, job.ticket.request.model
    if not (body.run_async and service.alone):
        answer = await service.wait(job, request)
        return JSONResponse({"id": job.id, **answer})
    service.jobs.add(job)
    accepted = state_of(service, job).model_dump(exclude_none=True)
    accepted |= {"session": id, "revision": begun.session.revision}
    return JSONResponse(accepted, 202, {"location": f"/v1/edits/{job.id}"})


async def _checked(
    service: Service, store: Store, id_: str, body: TurnBody, known: int, caller: str
) -> tuple[Started, Checked]:
    """What the turn starts from, and its edit, checked as any other."""

    def look() -> tuple[Started, bytes]:
        started = editing.look(
            store,
            id_,
            body.prompt,
            parent=body.parent,
            from_original=body.from_original,
            revision=known,
            owner=caller,
        )
        return started, store.pictures.get(started.base.picture)

    started, picture = await service.work(look)
    worded = body.model_copy(update={"prompt": started.prompt})
    parts = await service.work(parts_of, worded, picture)
    served = service.resolve(body.model, masked=parts.mask is not None)
    return started, await service.check(
        parts, served, seconds=body.timeout_s, previews=body.previews
    )


def _recorded(
    store: Store, begun: Started, request: EditRequest, result: EditResult, examiner: Examiner
) -> dict[str, Any]:
    """The answer's fields, once the turn is in the session."""
    owner = begun.session.owner
    session, made = editing.record(store, begun, request, result, examiner, owner)
    return {
        "status": "done",
        "session": session.id,
        "revision": session.revision,
        "turn": TurnInfo.of(session.id, made[0]).model_dump(),
        "candidates": [turn.id for turn in made],
        "images": [],
        "seeds": [turn.seed for turn in made],
        "recipe": dict(made[0].recipe),
        "timings": dict(result.timings),
        "warnings": list(made[0].warnings),
        "safety": None if result.safety is None else [each.as_json() for each in result.safety],
    }


def _picture_route(name: str, kind: str) -> None:
    """A route for one of a turn's pictures."""

    @router.get(
        f"/{{id}}/turns/{{turn}}/{name}",
        name=f"get_{name}",
        response_class=Response,
        responses={
            **_FEW,
            200: {
                "description": f"the turn's {name}",
                "content": {kind: {"schema": {"type": "string", "format": "binary"}}},
            },
            304: {"description": "as it was"},
        },
    )
    async def get_picture(
        request: Request,
        id: str,  # noqa: A002 - the path's word
        turn: str,
    ) -> Response:
        session = await _get(request, id)
        key = getattr(session.turn(turn), name)
        if key is None:
            raise NotFound(f"this turn has no {name}")
        headers = {"etag": f'"{key}"', "cache-control": _FOREVER}
        if key in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)

        def read() -> bytes:
            return _shelf(request).open()[0].pictures.get(key)

        return Response(await service_of(request).work(read), media_type=kind, headers=headers)

    get_picture.__doc__ = f"A turn's {name}."


for _name, _kind in (("picture", "image/png"), ("thumbnail", "image/webp"), ("mask", "image/png")):
    _picture_route(_name, _kind)


@router.get("/{id}/turns/{a}/compare/{b}", response_model=ComparisonInfo, responses=_FEW)
async def get_comparison(
    request: Request,
    id: str,  # noqa: A002 - the path's word
    a: str,
    b: str,
) -> Response:
    """Measure turn `b` beside turn `a`."""
    session = await _get(request, id)
    first, second = session.turn(a), session.turn(b)

    def compare() -> dict[str, float | None]:
        store, examiner = _shelf(request).open()
        return editing.compare(store.pictures, first, second, examiner).as_json()

    return JSONResponse(await service_of(request).work(compare))


async def _get(request: Request, id_: str) -> Session:
    def get() -> Session:
        return _shelf(request).open()[0].get(id_, request.state.caller)

    return await service_of(request).work(get)


def _shelf(request: Request) -> Shelf:
    shelf = request.app.state.shelf
    assert isinstance(shelf, Shelf)
    return shelf


async def _read(request: Request, kind: type[Body]) -> Body:
    """A JSON body.

    Raises:
        Stopping, UnsupportedMediaType, InvalidRequest.
    """
    service = service_of(request)
    if service.stopping:
        raise Stopping("the server is stopping; try another one, or this one later")
    if forms.media_type(request) != "application/json":
        raise UnsupportedMediaType("send application/json")
    raw = await forms.body(request)
    try:
        return await service.work(kind.model_validate_json, raw)
    except ValidationError as error:
        raise forms.invalid(error) from error


def _revision(request: Request, body: Change | TurnBody | None) -> int | None:
    """The revision that the caller knows.

    Raises:
        InvalidRequest: the header is no revision, or says another one than the body.
    """
    header = request.headers.get("if-match")
    given = None if body is None else body.revision
    if header is None or header.strip() == "*":
        return given
    found = _REVISION.fullmatch(header.strip())
    if found is None or given not in (None, int(found[1])):
        raise InvalidRequest(
            'give the session\'s revision, as "7", and once only', field="If-Match"
        )
    return int(found[1])


def _answer(session: Session, status: int = 200) -> Response:
    headers = {"etag": f'"{session.revision}"'}
    if status == 201:
        headers["location"] = f"{PREFIX}/{session.id}"
    return JSONResponse(SessionInfo.of(session).model_dump(), status, headers)

"""What the routes of sessions share: the store behind them, bodies, and revisions."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from overpaint.apps.server.bodies.fields import contents
from overpaint.apps.server.bodies.session_schemas import PREFIX, Change, SessionInfo, TurnBody
from overpaint.apps.server.bounds.lanes import Lane, watched
from overpaint.apps.server.errors import NotFound
from overpaint.apps.server.routes import ERRORS, service_of
from overpaint.apps.settings import Settings
from overpaint.apps.wiring import sessions
from overpaint.core.errors import Cancelled, InvalidRequest, OverpaintError, SafetyUnavailable
from overpaint.safety.policy import Stop
from overpaint.sessions.editor import Sessions
from overpaint.sessions.measuring import Examiner
from overpaint.sessions.store import Store
from overpaint.sessions.types import Session

WORKERS = 2
UPLOADS = 16
"""Uploads that the safety policy judges at the same time; of one key half, where there are more."""

TIDY_EVERY = 900.0
"""Seconds."""

_log = logging.getLogger(__name__)

_REVISION = re.compile(r'(?:W/)?"?(\d{1,18})"?', re.ASCII)
FEW = {status: about for status, about in ERRORS.items() if status not in (429, 504)}
"""Errors of routes that make no edits."""

IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": 'The revision of the session as the caller knows it: `"7"`.',
}


def documented(body: type[BaseModel], *parameters: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI of a body that the route reads itself."""
    return {
        "requestBody": {"required": True, "content": contents(body)},
        "parameters": list(parameters),
    }


class Shelf:
    """The server's store of sessions; opened when somebody first asks for one."""

    def __init__(self, settings: Settings) -> None:
        # Measuring takes seconds, a judge may take more: other edits do not wait for them.
        of_a_key = settings.server.of_a_key
        self.turns = Lane("sessions", WORKERS, int(of_a_key(WORKERS)), most_waiting=None)
        self._measuring = ThreadPoolExecutor(1, "measuring")
        self._uploads = Lane("uploads", UPLOADS, int(of_a_key(UPLOADS)))
        self._settings = settings
        self._lock = threading.Lock()
        self._open: tuple[Store, Examiner] | None = None

    def open(self) -> tuple[Store, Examiner]:
        """The store, and the examiner of results. Blocks: call it beside the event loop.

        Raises:
            NotFound: this server keeps no sessions.
            StoreUnavailable, InvalidSettings, ModelLoadError.
        """
        if not self._settings.sessions.enabled:
            raise NotFound("this server keeps no sessions")
        with self._lock:
            if self._open is None:
                store = sessions.store(self._settings)
                store.collect()
                self._open = store, sessions.examiner(self._settings)
            return self._open

    async def checked(self, work: Callable[[Callable[[], None]], Session]) -> Session:
        """Do work in which the safety policy judges an upload, beside all other work.

        Args:
            work: gets what the policy is to call before each check: it ends the work that nobody
                waits for.

        Raises:
            SafetyUnavailable: it took too long.
            Cancelled: the caller disconnected.
            Overloaded: too many uploads wait.
        """
        seconds = self._settings.server.check_timeout_s
        stop_event = threading.Event()
        late = SafetyUnavailable(
            f"the safety policy took longer than {seconds:g} seconds, so the content was "
            "refused; try again later"
        )

        def stop() -> None:
            if stop_event.is_set():
                raise Cancelled("the caller disconnected")

        return await watched(
            self._uploads, partial(work, stop), stop=stop_event.set, seconds=seconds, late=late
        )

    def later(self, work: Callable[[], None]) -> None:
        """Do work that nobody waits for, beside everything else; what goes wrong is logged."""

        def attempt() -> None:
            try:
                work()
            except OverpaintError as error:
                _log.warning("cannot do what was left for later", extra={"error": str(error)})

        self._measuring.submit(attempt)

    async def tidy(self) -> None:
        """Delete what no session names any more, from time to time, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_EVERY)
            if self._open is not None:
                try:
                    await asyncio.to_thread(self._open[0].collect)
                except OverpaintError as error:
                    _log.warning("cannot tidy up the sessions", extra={"error": str(error)})

    def close(self) -> None:
        """Let go of the database."""
        self.turns.pool.shutdown()
        self._measuring.shutdown(cancel_futures=True)
        self._uploads.pool.shutdown()
        if self._open is not None:
            self._open[0].close()


def shelf_of(request: Request) -> Shelf:
    """The application's sessions."""
    shelf = request.app.state.shelf
    assert isinstance(shelf, Shelf)
    return shelf


def sessions_of(request: Request, stop: Stop = None) -> Sessions:
    """The caller's sessions. Blocks: call it beside the event loop.

    Args:
        request: of the caller.
        stop: called before each check of an upload; what it raises ends the check.

    Raises:
        NotFound, StoreUnavailable, InvalidSettings, ModelLoadError: as `Shelf.open`.
    """
    store, examiner = shelf_of(request).open()
    return Sessions(
        store=store,
        check=partial(service_of(request).batcher.engine.policy.check_request, stop=stop),
        examiner=examiner,
        owner=request.state.caller,
    )


def revision_of(request: Request, body: Change | TurnBody | None) -> int | None:
    """The revision that the caller knows.

    Raises:
        InvalidRequest: the header is no revision, or says another one than the body.
    """
    header = request.headers.get("if-match")
    revision = None if body is None else body.revision
    if header is None or header.strip() == "*":
        return revision
    match = _REVISION.fullmatch(header.strip())
    if match is None or revision not in (None, int(match[1])):
        raise InvalidRequest(
            'give the session\'s revision, as "7", and once only', field="If-Match"
        )
    return int(match[1])


async def session_of(request: Request, id_: str) -> Session:
    """The caller's session of that id.

    Raises:
        SessionNotFound.
    """

    def get() -> Session:
        return shelf_of(request).open()[0].get(id_, request.state.caller)

    return await service_of(request).work(get)


def answer(session: Session, status: int = 200) -> Response:
    """A session as an answer, its revision as the ETag."""
    headers = {"etag": f'"{session.revision}"'}
    if status == 201:
        headers["location"] = f"{PREFIX}/{session.id}"
    return JSONResponse(SessionInfo.of(session).model_dump(), status, headers)

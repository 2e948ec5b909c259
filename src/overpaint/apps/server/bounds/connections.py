"""Connections: how many there may be, and how long they may stand idle or not take up an answer."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

RESERVED = 128
"""File descriptors for other things than connections."""

MOST = 4096
REPORT_EVERY = 60.0
KEEP_ALIVE_SECONDS = 75
"""How long a connection stays open for a next request: longer than proxies and load balancers keep
theirs (60 s by default), so that none sends a request into a connection that is being closed."""

CHUNK = 2**17
"""Bytes of an answer that are written at once, so that no more of it waits in a socket."""

_LISTEN_AGAIN = "_start_serving"
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)


class RareReport:
    """One line of the log now and then, of what happens very often."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._last = -REPORT_EVERY

    def __call__(self) -> None:
        """It happened once more."""
        if time.monotonic() - self._last >= REPORT_EVERY:
            self._last = time.monotonic()
            _log.warning(self._message)


_too_many = RareReport("too many connections: new ones are closed at once")
_no_descriptors = RareReport("no file descriptors are left: new connections wait")


class Connection(H11Protocol):
    """uvicorn's HTTP connection, which is closed if it is one too many or if nothing comes of it.

    Class attributes:
        most: connections at the same time.
        idle_seconds: in which the header of a request must arrive.
    """

    most = MOST
    idle_seconds = 60.0
    _idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = KEEP_ALIVE_SECONDS
        # The application's routes find it in the state of their request.
        self.app_state = {**self.app_state, "abort": self.abort}
        if len(self.connections) > self.most:
            _too_many()
            self.abort()
        else:
            self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close it at once, and drop what was not sent yet, in the system's own buffers too."""
        with suppress(OSError):  # it is closed already
            connected = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _look_again(self) -> None:
        before = self.cycle
        self._idle = self.loop.call_later(self.idle_seconds, self._close_if_idle, before)

    def _close_if_idle(self, before: Any) -> None:
        """Close it if a request was expected already when it was looked at before."""
        is_idle = self.cycle is None or self.cycle.response_complete
        is_kept_alive = self.timeout_keep_alive_task and not self.transport.is_closing()
        if is_idle and not is_kept_alive and self.cycle is before:
            self.abort()
        else:
            self._look_again()


def connection_class(most: int | None, idle_seconds: float) -> type[Connection]:
    """The connections of a server.

    Args:
        most: at the same time; None = as many as there are file descriptors for.
        idle_seconds: in which the header of a request must arrive.
    """
    limits = {"most": _room() if most is None else most, "idle_seconds": idle_seconds}
    return type("LimitedConnection", (Connection,), limits)


def _room() -> int:
    """Connections that there are file descriptors for, once as many are allowed as may be."""
    with suppress(ImportError, ValueError, OSError):  # there is no such limit on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = MOST + RESERVED
        if soft < limit:
            soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(8, min(MOST, soft - RESERVED))
    return MOST


def report_shortage(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """What an event loop does with errors: running out of descriptors is one line of the log."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in _SHORTAGES and "socket" in context:
        _no_descriptors()
    elif _LISTEN_AGAIN in context.get("message", "") and isinstance(error, ValueError):
        pass  # asyncio listens again, thousands of times, on a socket that was closed meanwhile
    else:
        loop.default_exception_handler(dict(context))


class SlowReaders:
    """ASGI middleware: answers go out piece by piece, and a client that takes up none is dropped.

    Args:
        app: the rest of the server.
        seconds: in which a piece must be taken up.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        abort = scope.get("state", {}).get("abort")

        async def sending(message: Message) -> None:
            try:
                for piece in _pieces(message):
                    async with asyncio.timeout(self._seconds):
                        await send(piece)
            except TimeoutError:
                _log.info("a client does not read its answer")
                if abort is not None:
                    abort()
                raise ConnectionAbortedError from None

        with suppress(ConnectionAbortedError):
            await self._app(scope, receive, sending)


def _pieces(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= CHUNK:
        yield message
        return
    view = memoryview(body)
    for start in range(0, len(body), CHUNK):
        is_last = start + CHUNK >= len(body)
        more = not is_last or message.get("more_body", False)
        yield {**message, "body": bytes(view[start : start + CHUNK]), "more_body": more}

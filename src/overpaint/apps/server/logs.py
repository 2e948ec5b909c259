"""Structured logs: one JSON object a line, never a prompt, a picture or a key."""

from __future__ import annotations

import json
import logging
import math
import secrets
import sys
import time
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

access = logging.getLogger("overpaint.access")

_KNOWN = {
    *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
    "message",
    "asctime",
    "color_message",  # uvicorn's, the message once more with codes for a terminal
}

_PROBES = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
"""Asked every few seconds; not worth a line each."""


_request: ContextVar[MutableMapping[str, Any] | None] = ContextVar("request", default=None)
"""State of the request that is worked on, with its id."""


def report(logger: logging.Logger, message: str, error: BaseException) -> None:
    """Log a fault of the server with its traceback, but each error once only.

    An error comes by several places on its way to the caller, and may be kept for others to ask.
    """
    if getattr(error, "is_reported", False):
        return
    error.is_reported = True  # type: ignore[attr-defined]
    logger.error(message, extra={"error": str(error)}, exc_info=error)


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, the request's id, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (state := _request.get()) is not None:
            entry["id"] = state["request_id"]
        entry |= {key: value for key, value in record.__dict__.items() if key not in _KNOWN}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(level: str = "INFO") -> None:
    """Send everything as JSON lines to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class AccessLog:
    """One line and one count per HTTP request, and its id in the answer's `x-request-id`.

    Both are made before the answer's last bytes leave: a client that has an answer finds its line
    in the log and itself in the metrics.

    Args:
        app: the rest of the server.
        count: called with method, route and status.
    """

    def __init__(self, app: ASGIApp, count: Callable[[str, str, int], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._count)
        token = _request.set(scope["state"])
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            _request.reset(token)
            # Of a caller that hung up the answer has no last bytes.
            exchange.note()


class _Exchange:
    """One request and its answer on the way out; it is noted once."""

    def __init__(self, scope: Scope, send: Send, count: Callable[[str, str, int], None]) -> None:
        self._scope = scope
        self._send = send
        self._count = count
        self._state: MutableMapping[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = secrets.token_hex(8)
        self._status = 0
        self._bytes_left = math.inf
        self._started = time.perf_counter()
        self._is_noted = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            self._bytes_left = float(dict(headers).get(b"content-length", math.inf))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message["headers"] = [
                *headers,
                (b"x-request-id", self._state["request_id"].encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        elif message["type"] == "http.response.body":
            self._bytes_left -= len(message.get("body", b""))
            # A refusal is whole while the rest of its request is still listened to.
            if self._bytes_left <= 0 or not message.get("more_body"):
                self.note()
        await self._send(message)

    def note(self) -> None:
        """Count the request and write its line, unless that was done."""
        if self._is_noted:
            return
        self._is_noted = True
        route = getattr(self._scope.get("route"), "path", "other")
        self._count(self._scope["method"], route, self._status)
        access.log(
            logging.DEBUG if route in _PROBES else logging.INFO,
            "request",
            extra={
                "id": self._state["request_id"],
                "method": self._scope["method"],
                "route": route,
                "status": self._status,
                "seconds": round(time.perf_counter() - self._started, 4),
                **{name: self._state.get(name) for name in ("caller", "edit", "model")},
            },
        )

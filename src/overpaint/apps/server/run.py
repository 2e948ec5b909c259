"""Runs the server in this process until a signal ends it."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn

from overpaint.apps.server import logs
from overpaint.apps.server.app import create_app
from overpaint.apps.server.bounds.connections import connection_class
from overpaint.apps.server.lifetime import ending
from overpaint.apps.server.service import EditService
from overpaint.apps.settings import Settings, is_loopback
from overpaint.core.errors import InvalidSettings

BACKLOG = 2048

SWITCH_SECONDS = 0.001
"""After which a thread that runs Python lets others. A request passes between threads many times,
and each time it may have to wait that long for one that is busy; Python's own 5 ms add up."""

_log = logging.getLogger(__name__)


def run(
    settings: Settings,
    *,
    host: str,
    port: int,
    log_level: str = "info",
    on_listening: Callable[[str], None] | None = None,
) -> NoReturn:
    """Listen and serve. SIGTERM and Ctrl-C finish what was accepted, for as long as `drain_s`
    allows; a second one ends at once.

    Args:
        settings: all of them.
        host, port: where to listen; port 0 = any.
        log_level: 'debug', 'info' or 'warning'.
        on_listening: called with the page's address.

    Raises:
        InvalidSettings: an address that others can reach, and no API keys; or it is taken.
    """
    settings.server.check_address(host)
    logs.configure(log_level.upper())
    app = create_app(settings, loopback_only=is_loopback(host))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        loop="asyncio",
        http=connection_class(settings.server.max_connections, settings.server.body_timeout_s),
        ws="none",
        backlog=BACKLOG,
    )
    listening = _listen(host, port)
    if not is_loopback(host):
        app.state.service.warn_of_licences()
    url = _url(host, listening.getsockname()[1])
    _log.info("listening", extra={"url": url})
    if on_listening is not None:
        on_listening(f"{url}/")
    service: EditService = app.state.service
    service.ending.enforce()
    sys.setswitchinterval(SWITCH_SECONDS)
    _Server(config, service).run(sockets=[listening])
    # Not by returning: taking torch apart takes seconds, and threads may be at work in it.
    ending.leave(service.ending.status)


class _Server(uvicorn.Server):
    """Goes on listening while it drains, so that accepted edits can be fetched."""

    def __init__(self, config: uvicorn.Config, service: EditService) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.stopping:
            ending.at_once(sig)
        self._service.ending.begin()

    async def on_tick(self, counter: int) -> bool:
        must_exit = await super().on_tick(counter)
        if self._service.is_lost and not self._service.stopping:
            _log.critical("no model or no device works any more; the server ends")
            self._service.ending.status = ending.LOST_EXIT
            self._service.ending.begin()
        if must_exit or not self._service.stopping:
            return must_exit
        if self._service.ending.is_nearly_over:
            self._service.cut_off()
            return True
        return self._service.idle

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the connections; a client that does not read its answer is not waited for."""
        left = self._service.ending.seconds_left - self._service.ending.last_seconds / 2
        self.config.timeout_graceful_shutdown = max(0.1, left)  # type: ignore[assignment]
        await super().shutdown(sockets)


def _url(host: str, port: int) -> str:
    """How a browser on this machine reaches the server."""
    name = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise InvalidSettings(
            f"cannot listen on {host}:{port}: {error.strerror}", field="port"
        ) from error
    return listening

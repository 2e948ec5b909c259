"""Which names of this server are answered to, and pages of which origins may use it."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from overpaint.apps.server.errors import Forbidden

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Hosts:
    """The names that a request may use.

    Args:
        allowed: names of hosts that are answered to beside those of loopback; empty = any, or
            with `loopback_only` none.
        origins: of pages that may use the server though they name another host, as behind a proxy
            that sends its own name on.
        loopback_only: whether the server listens on this machine alone; then names of other hosts
            are refused, so that no web page can reach it by a name that it made up.
    """

    def __init__(
        self, allowed: Collection[str], origins: Collection[str], *, loopback_only: bool
    ) -> None:
        self._allowed = LOOPBACK | {name.lower() for name in allowed}
        self._origins = frozenset(origin.lower() for origin in origins)
        self._answers_to_all = not allowed and not loopback_only

    def check(self, headers: Headers) -> None:
        """Refuse pages of other origins, and other names for this machine.

        Raises:
            Forbidden.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            raise Forbidden(
                "requests from pages of other origins are refused; server.origins allows them"
            )
        if not self._answers_to_all and _hostname(host) not in self._allowed:
            raise Forbidden(
                "this server does not answer to the host name of the request; "
                "server.allowed_hosts adds names"
            )

    def _is_own(self, origin: str, host: str) -> bool:
        return origin.lower() in self._origins or (bool(host) and _netloc(origin) == host.lower())


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""

"""The door: who may come in, and how large and how slow a body may be.

The body is read here, within its limits, before anything else sees the request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter, defaultdict
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from overpaint.apps.server import errors
from overpaint.apps.server.bounds.arrival import Arrival
from overpaint.apps.server.door import framing
from overpaint.apps.server.door.hosts import Hosts
from overpaint.core.errors import Overloaded, OverpaintError

OPEN = frozenset(
    {"/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping", "/health"}
)
"""Paths that need no key: they say only whether the server is well, or are the page."""

OPEN_FOLDER = "/page/"
"""The page's files: it cannot ask for a key before it is there."""

MAX_HELD = 2**30
"""Bytes of all bodies that are held at the same time; more requests than that get 429. If there are
several keys, each may hold half of that at most."""

LARGE_BODY = 2**20
BYTES_PER_SECOND = 8 * 2**20
"""Of one key's large bodies, while requests of other keys are under way: whatever reads or parses a
body keeps all others waiting meanwhile."""

LINGER_BYTES, LINGER_SECONDS = 16 * 2**20, 2.0


class Keys:
    """API keys by the name of whom they are for; without any, everybody may come in."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key) for name, key in keys.items()}

    def __len__(self) -> int:
        return len(self._digests)

    def caller(self, headers: Headers) -> str:
        """The name of the key that the headers carry.

        Raises:
            Unauthorized: none, or one that is not known.
        """
        if not self._digests:
            return "anyone"
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
        key = key or headers.get("api-key") or headers.get("x-api-key") or ""
        digest = _digest(key)
        # All are compared, so that the time does not show how near the key came.
        same = [
            name
            for name, key_digest in self._digests.items()
            if hmac.compare_digest(key_digest, digest)
        ]
        if not key or not same:
            raise errors.Unauthorized(
                "give a valid API key, as `Authorization: Bearer KEY` or `api-key: KEY`"
            )
        return same[0]


class RateLimit:
    """Lets `BYTES_PER_SECOND` pass."""

    def __init__(self) -> None:
        self._due = 0.0

    async def wait(self, size: int) -> None:
        """Wait for as long as so many bytes take, after those before them."""
        now = time.monotonic()
        self._due = max(now, self._due) + size / BYTES_PER_SECOND
        await asyncio.sleep(self._due - now)


class Guard:
    """ASGI middleware in front of everything.

    Args:
        app: the rest of the server.
        keys: who may come in.
        max_body: bytes of a body.
        body_timeout: seconds in which it must arrive.
        hosts: by which names, and from pages of which origins.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        max_body: int,
        body_timeout: float,
        hosts: Hosts,
    ) -> None:
        self._app = app
        self._keys = keys
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._hosts = hosts
        self._held_bytes: Counter[str] = Counter()
        self._held_of_a_key = MAX_HELD // 2 if len(keys) > 1 else MAX_HELD
        self._under_way: Counter[str] = Counter()
        self._rates: defaultdict[str, RateLimit] = defaultdict(RateLimit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrival = Arrival(receive)
        try:
            headers = Headers(scope=scope)
            self._hosts.check(headers)
            framing.check(headers)
            if scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
                _check_empty(headers)
            else:
                arrival.caller = self._keys.caller(headers)
                scope.setdefault("state", {})["caller"] = arrival.caller
        except OverpaintError as refused:
            await _refuse(refused, scope, receive, send)
            return
        self._under_way[arrival.caller] += 1
        try:
            await self._answer(arrival, headers, scope, send)
        finally:
            self._under_way[arrival.caller] -= 1

    async def _answer(self, arrival: Arrival, headers: Headers, scope: Scope, send: Send) -> None:
        """Read the body, and let the rest of the server answer."""
        receive = arrival.connection
        try:
            arrival.body = await self._body(headers, receive, arrival.caller)
        except OverpaintError as refused:
            await _refuse(refused, scope, receive, send)
            return
        except ConnectionAbortedError:
            return
        sizes = {arrival.caller: len(arrival.body)}
        arrival.at_end.append(lambda: self._held_bytes.subtract(sizes))
        with arrival.answering(send) as send_before_end:
            await self._app(_as_get(scope), arrival.receive, send_before_end)

    async def _body(self, headers: Headers, receive: Receive, caller: str) -> bytes:
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > self._max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._body_timeout):
                return await self._read(receive, caller)
        except TimeoutError as error:
            raise errors.SlowBody(
                f"the body did not arrive within {self._body_timeout:g} seconds"
            ) from error

    async def _read(self, receive: Receive, caller: str) -> bytes:
        """The whole body, counted as held; the caller of this method gives it back."""
        chunks, size, more = [], 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionAbortedError
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                self._held_bytes[caller] += len(chunks[-1])
                if size > self._max_body:
                    raise self._too_large()
                if (
                    self._held_bytes.total() > MAX_HELD
                    or self._held_bytes[caller] > self._held_of_a_key
                ):
                    raise Overloaded("too many large requests at once", retry_after=5)
                more = message.get("more_body", False)
                if size > LARGE_BODY and self._has_others(caller):
                    await self._rates[caller].wait(len(chunks[-1]))
        except BaseException:
            self._held_bytes[caller] -= size
            raise
        return b"".join(chunks)

    def _has_others(self, caller: str) -> bool:
        return any(count and name != caller for name, count in self._under_way.items())

    def _too_large(self) -> errors.BodyTooLarge:
        return errors.BodyTooLarge(f"the body is larger than the limit of {self._max_body:,} bytes")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _as_get(scope: Scope) -> Scope:
    """A probe's HEAD as the GET that it stands for; the server sends the head of its answer."""
    if scope["method"] != "HEAD" or scope["path"] not in OPEN:
        return scope
    # The server below still sees its own scope, in which it is HEAD.
    return {**scope, "method": "GET"}


def _check_empty(headers: Headers) -> None:
    """Refuse a body at its header where nobody reads one, so that it takes no room from others.

    Raises:
        BodyTooLarge.
    """
    if headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers:
        raise errors.BodyTooLarge("this address takes no body; send the request without one")


async def _refuse(refused: OverpaintError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then listen for a while to what still comes: a hasty hang-up would eat the answer."""
    answer = errors.response(refused, scope["path"])
    answer.headers["connection"] = "close"
    await send(
        {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    left = LINGER_BYTES
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})

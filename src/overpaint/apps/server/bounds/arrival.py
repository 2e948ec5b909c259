"""A request since it arrived: deadlines count from then, and its caller may hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.types import Message, Receive, Send


@dataclass(eq=False)
class Arrival:
    """One request, from its header on.

    Attributes:
        connection: says what comes after the body: that the caller disconnected.
        caller: name of the caller's key.
        at: when it arrived, in seconds of `time.monotonic`.
        at_end: called once, before the last bytes of its answer leave: a client that has the answer
            finds all that the request held free.
        body: the whole body, until somebody reads it.
    """

    connection: Receive
    caller: str = "anyone"
    at: float = field(default_factory=time.monotonic)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    body: bytes | None = None

    async def receive(self) -> Message:
        """The body first, and then what the connection says."""
        if self.body is None:
            return await self.connection()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def hung_up(self) -> None:
        """Wait until the caller has hung up; the body must have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    @contextmanager
    def answering(self, send: Send) -> Iterator[Send]:
        """Code that runs within this task answers the request, through what is given in place of
        `send`."""

        async def send_before_end(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._end()
            await send(message)

        token = _current.set(self)
        try:
            yield send_before_end
        finally:
            _current.reset(token)
            # The answer of a caller that hung up has no last bytes.
            self._end()

    def _end(self) -> None:
        at_end, self.at_end = self.at_end, []
        for end in at_end:
            end()


_current: ContextVar[Arrival | None] = ContextVar("arrival", default=None)


def current() -> Arrival | None:
    """The request that this task answers; None = it answers none."""
    return _current.get()


async def until_hung_up() -> None:
    """Wait until the caller of this task's request has hung up; without one, for ever."""
    request = current()
    await (asyncio.Event().wait() if request is None else request.hung_up())


def since() -> float:
    """When this task's request arrived, in seconds of `time.monotonic`; without one, now."""
    request = current()
    return time.monotonic() if request is None else request.at

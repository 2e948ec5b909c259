"""Threads for one kind of work, in which callers take turns and which a hang-up leaves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from overpaint.apps.server.bounds import arrival
from overpaint.core.errors import Cancelled, DeadlineExceeded, Overloaded, OverpaintError

Value = TypeVar("Value")

MOST_WAITING = 64
"""Requests that may wait for a place."""

RETRY_AFTER = 2.0


class Lane:
    """Requests that wait for a place to be worked on in, and those that have one.

    Args:
        name: of its threads.
        places: requests at the same time.
        of_a_caller: those of one caller among them.
        most_waiting: requests that wait at most, half of them of one caller; None = any number,
            where it is bounded elsewhere.
    """

    def __init__(
        self, name: str, places: int, of_a_caller: int, most_waiting: int | None = MOST_WAITING
    ) -> None:
        self.pool = ThreadPoolExecutor(places, name)
        self._places = asyncio.Semaphore(places)
        # Callers take turns: no more of one than it may have stand in line for a place.
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, of_a_caller)
        )
        self._waiting: Counter[str] = Counter()
        self._most_waiting = most_waiting

    async def run(
        self,
        work: Callable[[], Value],
        stop: Callable[[], None] = lambda: None,
        seconds: float | None = None,
    ) -> Value:
        """Do work in one of the threads; if it takes too long or is cancelled, `stop` ends it.

        Raises:
            Overloaded: too many wait.
            TimeoutError: it took longer than so many seconds.
        """
        caller = await self._place()
        future = asyncio.get_running_loop().run_in_executor(self.pool, work)
        # A place is free only when its thread is: that may be a little after the end.
        future.add_done_callback(lambda _: self._leave(caller))
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except (TimeoutError, asyncio.CancelledError):
            stop()
            future.add_done_callback(lambda each: each.cancelled() or each.exception())
            raise

    async def _place(self) -> str:
        """Wait for a place; returns whose it is."""
        request = arrival.current()
        caller = "" if request is None else request.caller
        self._check_waiting(caller)
        self._waiting[caller] += 1
        try:
            await self._turns[caller].acquire()
            try:
                await self._places.acquire()
            except BaseException:
                self._turns[caller].release()
                raise
        finally:
            self._waiting[caller] -= 1
        return caller

    def _check_waiting(self, caller: str) -> None:
        most = self._most_waiting
        if most is None:
            return
        if self._waiting.total() >= most or self._waiting[caller] >= most // 2:
            raise Overloaded(
                "too many requests wait for their turn; try again later", retry_after=RETRY_AFTER
            )

    def _leave(self, caller: str) -> None:
        self._places.release()
        self._turns[caller].release()


async def watched(
    lane: Lane,
    work: Callable[[], Value],
    *,
    stop: Callable[[], None] = lambda: None,
    seconds: float | None = None,
    late: OverpaintError | None = None,
    deadline: float | None = None,
) -> Value:
    """Do work in a lane while its caller waits for it.

    Args:
        lane: where.
        work: in a thread.
        stop: ends the work, from any thread.
        seconds: that it may take once it has a place; None = as long as it takes.
        late: raised where it takes longer.
        deadline: time of `time.monotonic` after which nobody wants it; None = never.

    Raises:
        Overloaded: too many wait.
        DeadlineExceeded: the deadline passed.
        Cancelled: the caller disconnected.
    """
    task = asyncio.create_task(lane.run(work, stop, seconds))
    hung_up = asyncio.create_task(arrival.until_hung_up())
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    waited: set[asyncio.Task[Any]] = {task, hung_up}
    try:
        await asyncio.wait(waited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    except TimeoutError as error:
        raise late or error from None
    finally:
        hung_up.cancel()
        task.cancel()
    if hung_up.done():
        raise Cancelled("the caller disconnected")
    raise DeadlineExceeded("it was not done before the deadline")

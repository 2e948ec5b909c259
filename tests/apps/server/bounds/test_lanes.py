from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

from overpaint.apps.server.bounds import arrival
from overpaint.apps.server.bounds.arrival import Arrival
from overpaint.apps.server.bounds.lanes import Lane, watched
from overpaint.core.errors import Cancelled, Overloaded


class Work:
    """Work in a thread that ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(60)
        return "done"


@contextmanager
def lane(**limits):
    lane = Lane("test", **limits)
    yield lane
    lane.pool.shutdown()


async def nothing():
    await asyncio.Event().wait()


def by(caller, work):
    """A task of a request of that caller."""

    async def asked():
        with Arrival(nothing, caller).answering(nothing):
            return await work

    return asyncio.create_task(asked())


async def settled() -> None:
    """All tasks have gone as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_caller_does_not_take_the_places_of_others():
    async def run():
        with lane(places=2, of_a_caller=1, most_waiting=None) as both:
            works = [Work() for _ in range(5)]
            tasks = [by("many", both.run(each)) for each in works]
            await settled()
            few = by("few", both.run(lambda: "at once"))
            assert await few == "at once"
            assert not works[1].begun.is_set()
            for each in works:
                each.go_on.set()
            assert await asyncio.gather(*tasks) == ["done"] * 5

    asyncio.run(run())


def test_half_of_those_who_wait_are_of_one_caller():
    async def run():
        with lane(places=1, of_a_caller=1, most_waiting=4) as single:
            work = Work()
            tasks = [by("many", single.run(work)) for _ in range(3)]
            await settled()
            with pytest.raises(Overloaded):
                await by("many", single.run(work))
            tasks += [by(caller, single.run(work)) for caller in ("few", "one")]
            await settled()
            with pytest.raises(Overloaded):
                await by("another", single.run(work))
            work.go_on.set()
            assert await asyncio.gather(*tasks) == ["done"] * 5

    asyncio.run(run())


def test_a_place_is_free_before_its_caller_has_the_result():
    async def run():
        with lane(places=1, of_a_caller=1, most_waiting=2) as single:
            for _ in range(20):
                await single.run(lambda: None)
                assert not single._places.locked()

    asyncio.run(run())


def test_a_caller_that_hangs_up_leaves_the_line():
    async def run():
        gone = asyncio.Event()

        async def connection():
            await gone.wait()
            return {"type": "http.disconnect"}

        with lane(places=1, of_a_caller=1, most_waiting=2) as single:
            work = Work()
            first = by("many", single.run(work))
            await settled()
            request = Arrival(connection, "few")
            with request.answering(nothing):
                waits = asyncio.create_task(watched(single, work))
            await settled()
            assert single._waiting["few"] == 1
            gone.set()
            with pytest.raises(Cancelled, match="disconnected"):
                await waits
            await settled()
            assert single._waiting["few"] == 0
            work.go_on.set()
            assert await first == "done"
            assert arrival.current() is None

    asyncio.run(run())

"""The thread that computes on a processor: whose work it does, and in which order."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import torch

from overpaint.core.errors import Cancelled
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching import cores
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.batching.cores import Cores
from tests.conftest import box_mask, picture

WAIT = 30


@pytest.fixture
def thread():
    made = Cores("cores")
    yield made
    made.close()


def in_background(work) -> threading.Thread:
    started = threading.Thread(target=work, daemon=True)
    started.start()
    return started


def long_work(entered: threading.Event, until) -> str:
    """Operations of torch until something is so."""
    entered.set()
    end = time.monotonic() + WAIT
    while not until() and time.monotonic() < end:
        torch.ones(8).add_(1)
    return "long"


class TestCores:
    def test_all_work_is_done_in_one_thread(self, thread):
        names = {thread.run(lambda: threading.current_thread().name)}
        other = in_background(lambda: names.add(thread.run(threading.current_thread).name))
        other.join(WAIT)
        assert names == {"cores"}

    def test_work_from_within_work_is_done_at_once(self, thread):
        assert thread.run(lambda: thread.run(lambda: "inner")) == "inner"

    def test_an_error_is_that_of_the_work_and_keeps_nothing(self, thread):
        class Kept:
            pass

        kept = Kept()
        gone = weakref.ref(kept)

        def fail(_):
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            thread.run(lambda kept=kept: fail(kept))
        del kept
        thread.run(int)  # the thread has moved on
        gc.collect()
        assert gone() is None

    def test_long_work_lets_other_work_in(self, thread):
        entered, done = threading.Event(), []

        def long() -> None:
            with cores.looking(lambda: None):
                done.append(thread.run(lambda: long_work(entered, lambda: "short" in done)))

        started = in_background(long)
        assert entered.wait(WAIT)
        thread.run(lambda: done.append("short"))
        started.join(WAIT)
        assert done == ["short", "long"]

    def test_long_work_within_long_work_lets_in_what_either_would(self, thread):
        entered, looks = threading.Event(), []

        def looked_outside() -> bool:
            """Whether the outer work's look was asked since the inner work began."""
            return "inner" in looks and "outer" in looks[looks.index("inner") :]

        def outer() -> None:
            with cores.looking(lambda: looks.append("outer")):
                thread.run(lambda: long_work(entered, lambda: "inner" in looks))

        started = in_background(outer)
        assert entered.wait(WAIT)
        with cores.looking(lambda: looks.append("inner")):
            thread.run(lambda: long_work(threading.Event(), looked_outside))
            assert looked_outside()
        started.join(WAIT)

    def test_what_ends_the_outer_work_ends_no_inner_work(self, thread):
        entered, is_wanted, ends = threading.Event(), threading.Event(), []
        is_wanted.set()

        def look() -> None:
            if not is_wanted.is_set():
                ends.append("look")
                raise Cancelled("nobody waits for it")

        def outer() -> None:
            with cores.looking(look), pytest.raises(Cancelled):
                thread.run(lambda: long_work(entered, lambda: False))
            ends.append("outer")

        started = in_background(outer)
        assert entered.wait(WAIT)

        def inner() -> str:
            is_wanted.clear()
            return long_work(threading.Event(), lambda: "look" in ends)

        with cores.looking(lambda: None):
            assert thread.run(inner) == "long"
        started.join(WAIT)
        assert ends[-1] == "outer"

    def test_what_looking_around_raises_ends_the_work(self, thread):
        def look() -> None:
            raise Cancelled("nobody waits for it")

        with cores.looking(look), pytest.raises(Cancelled):
            thread.run(lambda: long_work(threading.Event(), lambda: False))
        assert thread.run(lambda: "next") == "next"


@pytest.mark.parametrize(("threads", "name"), [(2, "cores cpu"), (1, "stepper cpu")])
def test_a_batcher_computes_in_one_thread_where_torch_has_several(make_engine, threads, name):
    """By an eraser, which does not use torch's threads: two of them are slow on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    engine = make_engine("erase")
    where, family = set(), engine.model().family
    advance = family.advance

    def noting(images) -> None:
        where.add(threading.current_thread().name)
        advance(images)

    family.advance = noting
    asked = EditRequest(image=Picture.from_pil(picture(64, 64)), mask=box_mask(64, 64), seed=1)
    try:
        batcher = Batcher(engine)
        crowded = batcher.submit(asked).result(WAIT)
        batcher.close()
        assert where == {name}
        alone = engine.run([asked])[0]
        assert where == {name, threading.current_thread().name}
    finally:
        torch.set_num_threads(before)
    assert crowded.pictures[0].sha256 == alone.pictures[0].sha256

"""The runner: each unit once, a bad one alone, and what is in the ledger is on the disk."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import Cancelled, ContentBlocked, InvalidMask, OutputError
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs.book import Book, Tally
from overpaint.jobs.runner import Runner
from tests.jobs.conftest import keep_in, request, unit


@pytest.fixture
def runner(batcher, ledger):
    return Runner(batcher=batcher, keep=keep_in(ledger.path.parent), book=Book(ledger=ledger))


def run(runner, units) -> Tally:
    """Another run of the same command: its own tally."""
    runner.book.tally = Tally()
    runner.run(units)
    return runner.book.tally


def test_pictures_are_those_of_the_engine(runner, ledger, make_engine):
    tally = run(runner, [unit(seed) for seed in range(6)])
    assert (tally.computed, tally.skipped, tally.statuses) == (6, 0, {"done": 6})
    engine = make_engine("erase")
    for seed in range(6):
        with Image.open(ledger.path.parent / f"{seed}.png") as made:
            alone = engine.run([request(seed)])[0]
            assert np.array_equal(made, alone.images[0])
        entry = ledger.get(unit(seed).id)
        assert (entry.seed, entry.picture, entry.attempts) == (seed, f"{seed}.png", 1)
        assert entry.recipe == dict(alone.recipe)
        assert entry.timings["total"] > 0


def test_what_is_done_is_not_made_again(runner, ledger):
    run(runner, [unit(seed) for seed in range(3)])
    loaded = []
    again = [unit(seed, load=lambda seed=seed: loaded.append(seed)) for seed in range(3)]
    tally = run(runner, [*again, unit(3)])
    assert loaded == []
    assert (tally.computed, tally.skipped, tally.statuses) == (1, 3, {"done": 4})


def test_a_picture_that_is_gone_is_made_again(runner, ledger):
    folder = ledger.path.parent
    runner.book.complete = lambda entry: (folder / entry.picture).is_file()
    run(runner, [unit(0), unit(1)])
    (folder / "1.png").unlink()
    assert run(runner, [unit(0), unit(1)]).computed == 1
    assert (folder / "1.png").is_file()


def test_a_bad_unit_fails_alone(runner, ledger):
    def unreadable():
        raise InvalidMask("it is torn", field="mask")

    units = [
        unit(0),
        unit(1, load=unreadable),
        unit(2, mask=None),
        unit(3, load=lambda: 1 / 0),
        unit(4),
    ]
    tally = run(runner, units)
    assert tally.statuses == {"done": 2, "failed": 3}
    assert tally.codes == {"invalid_mask": 2, "error": 1}
    reasons = [ledger.get(units[bad].id).reason for bad in (1, 2, 3)]
    assert reasons[0] == "mask: it is torn"
    assert reasons[1].startswith("mask: erase needs a mask")
    assert reasons[2] == "unexpected ZeroDivisionError: division by zero"
    assert ledger.get(units[1].id).seed == 1


def test_only_what_was_asked_for_is_retried(runner, ledger):
    bad = unit(1, mask=None)
    run(runner, [unit(0), bad])
    assert run(runner, [unit(0), bad]).computed == 0
    runner.book.retry = ("failed",)
    tally = run(runner, [unit(0), bad])
    assert (tally.computed, tally.skipped) == (1, 1)
    assert ledger.attempts(bad.id) == 2


def test_blocked_is_not_failed(runner, ledger):
    def blocked():
        raise ContentBlocked("the prompt is blocked", stage="prompt", category="hate")

    tally = run(runner, [unit(0, load=blocked)])
    entry = ledger.get(unit(0).id)
    assert tally.statuses == {"blocked": 1}
    assert (entry.status, entry.code, entry.flagged) == ("blocked", "content_blocked", True)


def test_a_full_disk_ends_the_run(runner, ledger):
    def full(*_):
        raise OutputError("The disk is full", field="output")

    runner.keep = full
    with pytest.raises(OutputError):
        run(runner, [unit(0), unit(1)])
    assert len(ledger) == 0


def test_cancelled_keeps_what_is_done_and_gives_up_the_rest(runner, ledger, batcher):
    runner.book.cancelled = lambda: len(ledger) >= 2
    with pytest.raises(Cancelled):
        run(runner, [unit(seed) for seed in range(50)])
    assert 2 <= len(ledger) < 10
    assert batcher.drain(60)
    runner.batcher, runner.book.cancelled = Batcher(batcher.engine, width=1), lambda: False
    assert run(runner, [unit(seed) for seed in range(10)]).statuses == {"done": 10}
    runner.batcher.close()


def test_few_are_under_way(runner, batcher):
    """However many units there are, few are loaded at a time."""
    most, ended = [], []
    loaded = 0

    def load(seed):
        nonlocal loaded
        loaded += 1
        most.append(loaded - len(ended))
        return request(seed)

    runner.book.on_progress = ended.append
    run(runner, [unit(seed, load=lambda seed=seed: load(seed)) for seed in range(30)])
    assert max(most) <= runner.under_way


def test_how_long_it_takes(runner):
    left = []
    runner.book.on_progress = lambda tally: left.append(
        (tally.finished_count, tally.seconds_left(4))
    )
    run(runner, [unit(seed) for seed in range(4)])
    assert [ended for ended, _ in left] == [1, 2, 3, 4]
    assert left[0][1] > 0
    assert left[-1][1] == 0

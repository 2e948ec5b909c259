"""Long work is cut between two operations: others get their turn, and nobody's picture changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching import cutting
from overpaint.engine.batching.cutting import LongWork
from tests.conftest import box_mask, picture

FAST = {"flex2": "fast", "kontext": "fast", "klein": "fast"}
UNMASKED = ("kontext", "klein", "klein-kv", "qwen-edit")
CUTS = 5
"""Places in an edit where another one is made, evenly spread over its operations."""


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(cutting, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(cutting, "MOST_ASIDE", math.inf)


def request(family, seed) -> EditRequest:
    more = {} if family in UNMASKED else {"mask": box_mask(64, 64)}
    options = {"num_inference_steps": 3}
    if family in FAST:
        options["preset"] = FAST[family]
    return EditRequest(
        image=Picture.from_pil(picture(64, 64, seed=seed)),
        prompt=f"a red cat {seed}",
        seed=seed,
        options=options,
        **more,
    )


def pixels(results) -> list[bytes]:
    return [each.pictures[0].rgb.tobytes() for each in results]


@pytest.mark.parametrize(
    "family", ["sd2", "sdxl", "flex2", "fill", "kontext", "klein", "klein-kv", "qwen-edit"]
)
def test_an_edit_in_the_middle_of_another_one_of_the_same_model(make_engine, family, always):
    """Whole edits are made between two operations: all pictures are as if each were alone."""
    outer, inner = (request(family, seed) for seed in (1, 2))
    engine = make_engine(family)
    engine.load()
    assert engine.model().is_whole
    operations, beside = 0, []

    def count() -> bool:
        nonlocal operations
        operations += 1
        return False

    with LongWork(count):
        first = engine.run([outer])
    places = {round(operations * (part + 0.5) / CUTS) for part in range(CUTS)}
    expected = pixels(first + make_engine(family).run([inner]))
    operations = 0

    def look() -> bool:
        if count() or operations in places:
            beside.extend(engine.run([inner]))
        return False

    engine = make_engine(family)  # one that remembers nothing
    engine.load()
    with LongWork(look):
        around = engine.run([outer])
    assert pixels(around) == expected[:1]
    assert pixels(beside) == [expected[1]] * CUTS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "keys"), [(5000, 5000), (2317, 999), (3000, 77), (300, 9000)])
def test_an_attention_in_pieces_has_the_same_bits(always, monkeypatch, dtype, rows, keys):
    monkeypatch.setattr(cutting, "PIECE_SCORES", 2**16)
    query, key, value = (
        torch.randn(2, 3, length, 40, dtype=dtype) for length in (rows, keys, keys)
    )
    whole = functional.scaled_dot_product_attention(query, key, value)
    looks = []
    with LongWork(lambda: bool(looks.append(1))):
        pieces = functional.scaled_dot_product_attention(query, key, value)
    assert torch.equal(whole, pieces)
    assert len(looks) >= 2 * 3 * (1 if rows < 1536 else rows // 768)


def test_heads_that_share_keys_stay_together(monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_SCORES", 2**10)
    query = torch.randn(1, 4, 100, 16)
    key, value = (torch.randn(1, 2, 100, 16) for _ in range(2))
    whole = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with LongWork(lambda: False):
        pieces = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    assert torch.equal(whole, pieces)


def test_masks_are_cut_with_the_queries(always, monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_SCORES", 2**20)
    query, key, value = (torch.randn(2, 2, 2000, 16) for _ in range(3))
    for shape in ((2000, 2000), (1, 2000), (2, 1, 1, 2000), (2, 2, 2000, 2000)):
        mask = torch.randn(shape) > 0
        whole = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        with LongWork(lambda: False):
            pieces = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        assert torch.allclose(whole, pieces, atol=1e-6)


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds) -> None:
        self.now += seconds


@pytest.mark.parametrize("short", [0.001, 0.1, 5.0])
def test_long_work_keeps_a_tenth_of_its_thread(monkeypatch, short):
    """Others want all of it, for ever, in passes of so many seconds; it ends and begins anew."""
    clock, aside = Clock(), 0.0
    monkeypatch.setattr(cutting, "time", clock)
    monkeypatch.setattr(LongWork, "_share", cutting.TimeShare())

    def look() -> bool:
        nonlocal aside
        clock.now += short
        aside += short
        return True

    for _ in range(10):
        with LongWork(look):
            for _ in range(100):
                functional.silu(torch.zeros(1))
                clock.now += 0.02
    own = clock.now - aside
    assert 0.5 * cutting.MOST_ASIDE * own < aside <= cutting.MOST_ASIDE * own + short


def test_long_work_waits_a_moment_for_more_short_work_of_others(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cutting, "time", clock)
    expectation = cutting.Expectation()
    assert not expectation.wait({"many"})
    expectation.note("few")
    assert not expectation.wait({"few"})
    while expectation.wait({"many"}):
        assert clock.now <= cutting.MORE_WITHIN + cutting.MOMENT
    assert clock.now >= cutting.MORE_WITHIN
    expectation.note("many")
    assert not expectation.wait({"many"})


def test_long_work_that_was_alone_does_not_wait_for_as_long(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cutting, "time", clock)
    monkeypatch.setattr(LongWork, "_share", cutting.TimeShare())

    def look() -> bool:
        clock.now += 0.1
        return True

    with LongWork(look) as work:
        clock.now += 100
        work.look_around()
    assert clock.now - 100 <= cutting.MOST_CREDIT + 0.3

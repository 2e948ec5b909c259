"""Memory that runs out on the second device: a typed answer, and nothing is left behind."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from overpaint.checkpoints import shortage
from overpaint.core.errors import ModelLoadError, OutOfMemory
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from tests.conftest import box_mask, picture
from tests.engine.batching.test_batcher import until

pytestmark = pytest.mark.usefixtures("quick_garbage_search")

SIDE = 128
WAIT = 60
BIT = 10_000
"""Bytes that a card has beside what it holds: less than any pass or network takes."""


def request(seed: int = 0, **more) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(SIDE, SIDE)),
        prompt="a red circle",
        mask=box_mask(SIDE, SIDE),
        seed=seed,
        options={"num_inference_steps": 2, "window": "full"},
        **more,
    )


def held(card) -> int:
    gc.collect()
    return card.held


class Inside:
    """Makes a card small while one of a family's methods runs."""

    def __init__(self, monkeypatch, family, method: str, card) -> None:
        work = getattr(family, method)
        self.active = True

        def limited(*arguments):
            if not self.active:
                return work(*arguments)
            with card.limited(card.held + BIT):
                return work(*arguments)

        monkeypatch.setattr(family, method, limited)


@pytest.mark.parametrize("family", ["sd2", "kontext"])
class TestAlone:
    def test_while_loading(self, cards, make_on, family):
        engine = make_on(family, "card")
        before = held(cards[0])
        with cards[0].limited(before + BIT), pytest.raises(OutOfMemory) as caught:
            engine.run([request()])
        assert held(cards[0]) == before
        expected = make_on(family, "card:1").run([request()])[0].images[0].tobytes()
        assert engine.run([request()])[0].images[0].tobytes() == expected
        assert not isinstance(caught.value, ModelLoadError)

    @pytest.mark.parametrize("method", ["prepare", "advance", "decode"])
    def test_while_computing(self, cards, make_on, monkeypatch, family, method):
        engine = make_on(family, "card")
        expected = engine.run([request()])[0].images[0].tobytes()
        engine.run([request(seed=1)])
        before = held(cards[0])
        inside = Inside(monkeypatch, engine.model().family, method, cards[0])
        engine.model().checkpoint.memo.__init__()
        without_memo = held(cards[0])
        with pytest.raises(OutOfMemory) as caught:
            engine.run([request()])
        inside.active = False
        assert held(cards[0]) <= before
        assert engine.run([request()])[0].images[0].tobytes() == expected
        assert without_memo < before
        assert type(caught.value) is OutOfMemory


@pytest.mark.parametrize("method", ["advance", "decode"])
def test_the_batcher_answers_and_goes_on(cards, make_on, monkeypatch, method):
    engine = make_on("kontext", "card")
    expected = engine.run([request()])[0].images[0].tobytes()
    before = held(cards[0])
    inside = Inside(monkeypatch, engine.model().family, method, cards[0])
    batcher = Batcher(engine)
    try:
        failed = batcher.submit(request())
        error = failed.future.exception(WAIT)
        assert isinstance(error, OutOfMemory)
        until(lambda: held(cards[0]) <= before)
        inside.active = False
        assert batcher.submit(request()).result(WAIT).images[0].tobytes() == expected
        until(lambda: held(cards[0]) <= before)
    finally:
        batcher.close()


def test_errors_that_are_kept_hold_nothing_of_the_processors_memory(make_on, monkeypatch):
    engine = make_on("sd2", "cpu")
    batcher = Batcher(engine)
    family = engine.model().family
    batcher.submit(request()).result(WAIT)

    def failing(batch):
        ballast = bytearray(2**20)
        raise MemoryError(len(ballast))

    monkeypatch.setattr(family, "advance", failing)

    def failed(count: int) -> list[BaseException | None]:
        return [batcher.submit(request(seed)).future.exception(WAIT) for seed in range(count)]

    tracemalloc.start()
    try:
        kept = failed(2)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept += failed(8)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2**20
    finally:
        tracemalloc.stop()
        batcher.close()
    assert {type(each) for each in kept} == {OutOfMemory}


def test_idle_models_leave_for_one_that_is_being_loaded(cards, make_on, checkpoint_folder):
    engine = make_on("kontext", "card")
    alone = make_on("kontext", "card:1")
    expected = alone.run([request()])[0].images[0].tobytes()
    engine.run([request()])
    other = str(checkpoint_folder("sd2"))
    engine.model(other).load()
    first = engine.models.names[0]
    checkpoint = engine.model(first).checkpoint
    checkpoint.release("transformer", "vae")
    missing = sum(checkpoint.sizes()[name] for name in ("transformer", "vae"))
    with cards[0].limited(held(cards[0]) + missing - 1):
        engine.begin(request())
    assert engine.models.names == [first]
    assert engine.run([request()])[0].images[0].tobytes() == expected


def test_networks_of_the_same_model_leave_too(cards, make_on):
    engine = make_on("kontext", "card")
    expected = engine.run([request()])[0].images[0].tobytes()
    checkpoint = engine.model().checkpoint
    full = held(cards[0])
    checkpoint.release("transformer")
    gc.collect()
    with cards[0].limited(full - 1):
        engine.begin(request())
    assert checkpoint.take_turns
    assert "text_encoder_2" not in checkpoint._loaded
    assert engine.run([request()])[0].images[0].tobytes() == expected


def test_busy_models_do_not_leave(make_on, checkpoint_folder):
    engine = make_on("sd2", "card")
    busy, other = engine.model(), engine.model(str(checkpoint_folder("kontext")))
    busy.load()
    assert not engine.models.make_room(other, busy=[busy])
    assert engine.models.make_room(other)
    assert engine.models.names == [str(checkpoint_folder("kontext"))]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_librarys_saying(error):
    with pytest.raises(OutOfMemory, match="too large") as caught, shortage.mapped("too large"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ModelLoadError("out of memory cards"), RuntimeError("other")])
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught, shortage.mapped("too large"):
        raise error
    assert caught.value is error


def test_an_engine_may_be_given_a_model_without_weights(make_engine):
    engine: Engine = make_engine("erase")
    model: Model = engine.model()
    assert not engine.models.make_room(model)

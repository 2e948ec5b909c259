"""Memory is planned as it is, on the second device."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchmarks.performance.memory import Peaks
from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build, catalogue
from overpaint.checkpoints.placement import MemoryPlan
from overpaint.core.errors import OutOfMemory, Overloaded
from overpaint.engine.batching.batcher import Batcher
from tests.devices.test_shortage import WAIT, held, request

KEPT = 1000


def test_peaks_of_phases_on_a_card(cards, make_on):
    engine = make_on("kontext", "card")
    checkpoint = engine.model().checkpoint
    peaks = Peaks(checkpoint)
    with peaks.phase("load"):
        engine.load()
    before = held(cards[0])
    with peaks:
        engine.run([request()])
    assert set(peaks.bytes) == {"load", "text_encoder", "text_encoder_2", "transformer", "vae"}
    assert peaks.bytes["vae"] > peaks.bytes["text_encoder"] > before
    assert "borrowed" not in vars(checkpoint)


@pytest.fixture
def keeping(make_on, monkeypatch):
    """(bytes that are spare) → engine whose images keep `KEPT` bytes each."""

    @dataclass
    class Counts:
        prepared: int = 0

    def engine(spare: int, *, told: bool = True):
        made = make_on("kontext", "card")
        family, counts = made.model().family, Counts()
        made.models.spare = spare
        prepare = family.prepare

        def keeps(*arguments):
            counts.prepared += 1
            images, warnings = prepare(*arguments)
            for image in images:
                image.held_bytes = KEPT
            return images, warnings

        monkeypatch.setattr(family, "prepare", keeps)
        if told:
            monkeypatch.setattr(family, "held_bytes", lambda *_: KEPT)
        return made, counts

    return engine


def test_what_never_fits_is_refused_before_it_is_prepared(keeping):
    engine, counts = keeping(KEPT - 1)
    with pytest.raises(OutOfMemory, match="window") as caught:
        engine.begin(request())
    assert "refresh_every=1" in str(caught.value)
    assert counts.prepared == 0
    assert not engine.model().checkpoint.take_turns


def test_what_an_image_says_once_it_is_prepared_counts_too(keeping):
    engine, counts = keeping(KEPT - 1, told=False)
    with pytest.raises(OutOfMemory, match="window"):
        engine.begin(request())
    assert counts.prepared == 1


def test_every_image_of_an_edit_counts(keeping):
    engine, _ = keeping(2 * KEPT)
    assert engine.begin(request(num_images=2)).held_bytes == 2 * KEPT
    with pytest.raises(OutOfMemory):
        engine.begin(request(num_images=3))


def test_there_may_be_room_later(keeping):
    engine, _ = keeping(2 * KEPT)
    assert engine.begin(request(), held_bytes=KEPT)
    with pytest.raises(Overloaded):
        engine.begin(request(), held_bytes=KEPT + 1)


def test_edits_that_keep_much_take_turns(keeping, monkeypatch):
    engine, _ = keeping(2 * KEPT)
    most = []
    step = engine.step
    batcher = Batcher(engine)

    def counted(model, images):
        most.append(batcher._board.held_bytes(batcher._board.devices[0]))
        step(model, images)

    monkeypatch.setattr(engine, "step", counted)
    try:
        tickets = [batcher.submit(request(seed)) for seed in range(5)]
        assert all(ticket.result(WAIT).images for ticket in tickets)
    finally:
        batcher.close()
    assert max(most) == 2 * KEPT


def test_two_models_are_planned_one_after_the_other(cards, make_on, checkpoint_folder):
    engine = make_on("kontext", "card")
    first = engine.model().plan
    second = engine.model(str(checkpoint_folder("sd2"))).plan
    assert first is not None
    assert second is not None
    assert second.free == pytest.approx(first.free - first.peak, abs=2**20)
    assert engine.models.spare == second.free - second.peak
    engine.load()
    assert engine.models.reserved < first.peak + second.peak


def test_a_model_that_has_left_gives_back_what_it_was_promised(cards, make_on, checkpoint_folder):
    engine = make_on("kontext", "card")
    other = engine.model(str(checkpoint_folder("sd2")))
    before = engine.models.spare
    assert engine.models.make_room(engine.model())
    assert engine.models.spare == before + other.plan.peak


def test_a_plan_for_every_device(cards, checkpoint_folder):
    settings = Settings(dtype="float32")
    spec = catalogue.find_model(str(checkpoint_folder("kontext")), settings)
    with cards[1].limited(held(cards[1])):
        plans = build.memory_plans(spec, settings)
    assert list(plans) == ["card:0", "card:1", "cpu"]
    assert isinstance(plans["card:0"], MemoryPlan)
    assert isinstance(plans["card:1"], OutOfMemory)


@pytest.mark.parametrize("family", ["kontext", "flex2"])
def test_streamed_blocks_give_the_same_bytes_in_less_memory(cards, make_on, family):
    engine = make_on(family, "card")
    checkpoint = engine.model().checkpoint
    checkpoint.evict_ahead = checkpoint.take_turns = True
    found, peaks = [], []
    for resident in ({}, dict.fromkeys(checkpoint.need().blocks, 0)):
        checkpoint.resident = resident
        checkpoint.release(*checkpoint.inventory.with_weights)
        checkpoint.memo.__init__()
        measured = Peaks(checkpoint)
        before = held(cards[0])
        with measured:
            found.append(engine.run([request()])[0].images[0].tobytes())
        peaks.append({name: peak - before for name, peak in measured.bytes.items()})
    assert found[0] == found[1]
    assert set(checkpoint.need().blocks) == {"transformer", "text_encoder_2"}
    assert peaks[1]["transformer"] < peaks[0]["transformer"]


def test_a_card_that_is_too_small_for_the_blocks_streams_them(cards, make_on, monkeypatch):
    from overpaint.checkpoints import placement

    monkeypatch.setattr(placement, "DECODED", 1)
    monkeypatch.setattr("overpaint.checkpoints.checkpoint.DECODED", 1)
    expected = make_on("kontext", "cpu").run([request()])[0].images[0]
    need = make_on("kontext", "card").model().checkpoint.need()
    assert need.resident(need.peak("streamed") - 1) is not None
    monkeypatch.setattr(placement, "free_memory", lambda _: need.peak("streamed") - 1)
    engine = make_on("kontext", "card")
    assert engine.model().plan.tier == "streamed"
    assert engine.models.spare == 0
    result = engine.run([request()])[0].images[0]
    assert max(abs(a - b) for a, b in zip(result.tobytes(), expected.tobytes(), strict=True)) <= 1

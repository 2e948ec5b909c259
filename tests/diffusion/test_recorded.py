"""Recorded steps: the same values, no shared memory, bounded, and never in the way."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion import recorded
from overpaint.diffusion.recorded import MOST, Recorder
from tests.conftest import box_mask, picture

CPU = torch.device("cpu")
RECORDED_AT = 3
"""Calls of a shape until it is recorded: one as it is, one timed."""


class Repeat:
    """Records a call as a closure over its fixed memory, and repeats it into the same output."""

    def __init__(self, _: torch.device = CPU, *, ratio: float = 1.0) -> None:
        self.ratio, self.room = ratio, True
        self.recorded = self.replayed = 0
        self.failure: Exception | None = None

    def has_room(self) -> bool:
        return self.room

    def timed(self, call):
        return call(), lambda: self.ratio

    def record(self, call):
        self.recorded += 1
        if self.failure is not None:
            raise self.failure
        output: list[torch.Tensor] = []

        def replay():
            self.replayed += 1
            value = call()
            if not output:
                output.append(torch.empty_like(value))
            return output[0].copy_(value)

        return replay


class Owner:
    """Holds memory that a step adds up in."""

    def __init__(self) -> None:
        self.total = torch.zeros(2)


class Model(torch.nn.Module):
    """A network whose step counts its calls."""

    calls = 0
    owner: Owner | None = None


def doubled(model, tensors, offset, sign=1):
    model.calls += 1
    return sign * (2 * torch.cat(list(tensors)) + offset)


def accumulated(model, values):
    model.owner.total += values
    return model.owner.total.clone()


def failing(model, values):
    raise ValueError("not today")


@pytest.fixture
def tape():
    return Repeat()


@pytest.fixture
def model(tape):
    made = Model()
    setattr(made, recorded.ATTRIBUTE, Recorder(tape))
    return made


def recorder(model) -> Recorder:
    return getattr(model, recorded.ATTRIBUTE)


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)


def repeat(model, count=RECORDED_AT, width=1, **more):
    return [
        recorded.recorded(model, doubled, [torch.full((width,), float(n))], values(n), **more)
        for n in range(count)
    ]


def test_values_follow_the_inputs(model, tape):
    for number in range(6):
        found = recorded.recorded(
            model, doubled, [values(number), values(-number)], values(number), 3
        )
        assert found.tolist() == [9 * number, -3 * number]
    assert (tape.recorded, tape.replayed) == (1, 4)


def test_results_and_inputs_are_nobody_elses(model):
    argument = values(1)
    first, second = [recorded.recorded(model, doubled, [argument], values(0)) for _ in range(5)][
        -2:
    ]
    first.fill_(7)
    assert second.tolist() == [2]
    assert argument.tolist() == [1]
    assert recorded.recorded(model, doubled, [argument], values(0)).tolist() == [2]


def test_the_third_call_is_recorded(model, tape):
    repeat(model, RECORDED_AT - 1)
    assert tape.recorded == 0
    repeat(model, 1)
    assert tape.recorded == 1


def test_a_step_that_fills_the_device_is_not_recorded(model, tape):
    tape.ratio = recorded.LAUNCH_BOUND
    assert [each.item() for each in repeat(model, 6)] == [3 * n for n in range(6)]
    assert tape.recorded == 0


def test_nothing_is_recorded_without_room(model, tape):
    tape.room = False
    repeat(model, 5)
    assert tape.recorded == 0
    tape.room = True
    repeat(model, 1)
    assert tape.recorded == 1


@pytest.mark.parametrize(
    "argument",
    [1.5, "word", torch.zeros(1).expand(3), [1.5]],
    ids=["float", "word", "view", "list"],
)
def test_what_cannot_be_fixed_is_not_recorded(model, tape, argument):
    for _ in range(5):
        recorded.recorded(model, lambda model, values, other: values, values(1), argument)
    assert tape.recorded == 0


def test_numbers_tell_steps_apart(model, tape):
    for sign in (1, -1):
        for number in range(RECORDED_AT + 1):
            found = recorded.recorded(model, doubled, [values(number)], values(0), sign)
            assert found.tolist() == [2 * number * sign]
    assert tape.recorded == 2


def test_shapes_strides_and_precisions_tell_steps_apart(model, tape):
    square = torch.arange(4.0).reshape(2, 2)
    for tensor in (square, square.T, square.double(), square[:1]):
        for _ in range(RECORDED_AT):
            found = recorded.recorded(model, doubled, [tensor], values(0))
            assert torch.equal(found, 2 * tensor)
    assert tape.recorded == 4


def test_the_least_recently_used_shape_is_forgotten_first(model, tape):
    for width in range(1, MOST + 1):
        repeat(model, width=width)
    assert recorder(model).recordings == MOST
    repeat(model, 1, width=1)
    repeat(model, width=MOST + 1)
    assert recorder(model).recordings == MOST
    before = tape.recorded
    repeat(model, 1, width=1)
    assert tape.recorded == before
    repeat(model, width=2)
    assert tape.recorded == before + 1


@pytest.mark.parametrize("failure", [RuntimeError("no"), torch.OutOfMemoryError("no")])
def test_what_fails_to_record_runs_as_it_is_for_good(model, tape, failure):
    tape.failure = failure
    assert [each.item() for each in repeat(model, 6)] == [3 * n for n in range(6)]
    assert tape.recorded == 1
    assert recorder(model).broken


def test_a_step_that_fails_by_itself_says_so_and_breaks_nothing(model):
    for _ in range(2):
        with pytest.raises(ValueError, match="not today"):
            recorded.recorded(model, failing, values(1))
    assert not recorder(model).broken


def test_one_owner_at_a_time_has_recordings(model, tape):
    first, second = Owner(), Owner()
    for _ in range(RECORDED_AT + 1):
        for owner in (first, second):
            model.owner = owner
            recorded.recorded(model, accumulated, values(1, 2), owner=owner)
    assert tape.recorded == 1
    # The closure of `Repeat` reads `model.owner`, as a graph would its fixed addresses.
    for owner in (first, second):
        assert owner.total.tolist() == [RECORDED_AT + 1, 2 * (RECORDED_AT + 1)]


def test_the_next_owner_is_recorded_at_once(model, tape):
    for _ in range(2):
        model.owner = Owner()
        for _ in range(RECORDED_AT):
            recorded.recorded(model, accumulated, values(1, 2), owner=model.owner)
        model.owner = None
    assert tape.recorded == 2
    assert tape.replayed == 1 + RECORDED_AT


def test_another_thread_does_not_wait(model):
    entered, leave = threading.Event(), threading.Event()

    def slow(model, tensor):
        entered.set()
        leave.wait(60)
        return tensor

    thread = threading.Thread(target=lambda: recorded.recorded(model, slow, values(1)))
    thread.start()
    assert entered.wait(60)
    assert repeat(model, 2)[1].tolist() == [3]
    leave.set()
    thread.join()


def test_nothing_is_recorded_where_nothing_records():
    model = Model()
    recorded.attach(model, CPU)
    assert not hasattr(model, recorded.ATTRIBUTE)
    assert repeat(model, 2)[1].tolist() == [3]


@pytest.fixture
def tapes(monkeypatch):
    """Tapes of the processor, as they are made."""
    made = []

    def repeating(device):
        made.append(Repeat(device))
        return made[-1]

    monkeypatch.setitem(recorded.TAPES, "cpu", repeating)
    return made


def edited(engine, **options) -> np.ndarray:
    request = EditRequest(
        image=Picture.from_pil(picture(64, 64)),
        mask=box_mask(64, 64),
        prompt="a red cat",
        seed=3,
        num_images=2,
        options={"num_inference_steps": 6, **options},
    )
    return np.stack([np.asarray(image) for image in engine.run([request])[0].images])


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 1.0}, {"preset": "balanced"}])
def test_recorded_steps_of_stable_diffusion_are_the_same_bits(make_engine, tapes, options):
    expected = edited(make_engine("sd2"), **options)
    assert tapes[-1].replayed
    tapes.clear()
    recorded.TAPES.pop("cpu")
    assert np.array_equal(edited(make_engine("sd2"), **options), expected)
    assert not tapes


@pytest.fixture
def widths(make_engine, monkeypatch):
    """(images) → how many images the UNet was given in each pass of an edit of so many."""

    def edit(count: int) -> tuple[list[int], np.ndarray]:
        engine = make_engine("sd2")
        unet, seen = engine.model().checkpoint.component("unet"), []
        unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0]) // 2))
        request = EditRequest(
            image=Picture.from_pil(picture(64, 64)),
            mask=box_mask(64, 64),
            prompt="a red cat",
            seed=3,
            num_images=count,
            options={"num_inference_steps": 6},
        )
        images = engine.run([request])[0].images
        return seen, np.stack([np.asarray(image) for image in images]).astype(int)

    return edit


@pytest.mark.parametrize(("count", "width"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_a_batch_is_filled_up_to_one_that_is_recorded(widths, tapes, count, width):
    seen, found = widths(count)
    assert set(seen) == {width}
    assert tapes[0].recorded == 1
    recorded.TAPES.pop("cpu")
    plain, expected = widths(count)
    assert set(plain) == {count}
    assert abs(found - expected).max() <= 1


def test_a_batch_that_fills_the_device_is_not_filled_up(widths, monkeypatch):
    monkeypatch.setitem(recorded.TAPES, "cpu", lambda device: Repeat(device, ratio=0.1))
    assert widths(3)[0] == [4, 4, 4, 3, 3, 3]


def test_nothing_is_recorded_where_the_unet_leaves_between_prompts(make_engine, tapes):
    engine = make_engine("sd2")
    engine.model().checkpoint.take_turns = True
    edited(engine)
    assert not tapes


def test_recordings_are_dropped_when_memory_runs_out(make_engine, tapes, monkeypatch):
    engine = make_engine("sd2")
    edited(engine)
    checkpoint = engine.model().checkpoint
    unet = checkpoint.component("unet")
    assert recorder(unet).recordings

    def out(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(unet, "forward", out)
    with pytest.raises(Exception, match="does not fit"):
        edited(engine, guidance_scale=1.0)
    assert not recorder(unet).recordings

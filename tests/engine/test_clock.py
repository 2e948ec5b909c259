"""A device's own clock, on a device that works later than it is told to."""

from __future__ import annotations

import pytest
import torch

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine import clock, streams
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.batching.observer import Observer
from overpaint.engine.clock import AHEAD
from tests import second_device
from tests.conftest import box_mask, picture
from tests.devices.conftest import cards, make_on  # noqa: F401 - fixtures

PASS = 5.0
STEPS = 6


class Later:
    """A clock of a device that takes `PASS` seconds for each piece of work, once it is waited for.

    Attributes:
        open: pieces of work that it was given and has not done.
        most: of these, at most.
    """

    def __init__(self) -> None:
        self.open = self.most = 0

    def start(self):
        return LaterWatch(self)


class LaterWatch:
    is_done = False

    def __init__(self, clock: Later) -> None:
        self._clock = clock

    def stop(self) -> None:
        self._clock.open += 1
        self._clock.most = max(self._clock.most, self._clock.open)

    def seconds(self) -> float:
        if not self.is_done:
            self.is_done = True
            self._clock.open -= 1
        return PASS


class Listener(Observer):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def stepped(self, images, seconds) -> None:
        self.seconds.append(seconds)


def request(seed=0, **more) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(64, 64, seed=seed)),
        prompt="a red cat",
        mask=box_mask(64, 64),
        seed=seed,
        options={"num_inference_steps": STEPS},
        **more,
    )


@pytest.fixture
def later(make_engine):
    engine = make_engine("sd2")
    engine.clock = Later()
    return engine


def test_the_batcher_learns_from_the_devices_clock(later):
    listener = Listener()
    batcher = Batcher(later, observer=listener)
    try:
        result = batcher.submit(request()).result(60)
        pace = batcher.devices[0].policy._paces.popitem()[1]
        per_step = batcher.devices[0].seconds_per_step
    finally:
        batcher.close()
    assert listener.seconds == [PASS] * STEPS
    assert pace.seconds == {1: PASS}
    assert per_step == pytest.approx(PASS)
    assert result.timings["steps"] == PASS * STEPS
    assert later.clock.most == AHEAD + 1
    assert later.clock.open == 0


def test_an_edit_by_itself_keeps_no_more_ahead(later):
    later.run([request()])
    assert later.clock.most == AHEAD + 1
    assert later.clock.open == 0


def test_previews_and_news_come_in_time(later):
    updates = []
    batcher = Batcher(later)
    try:
        batcher.submit(request(), previews=2, on_update=updates.append).result(60)
    finally:
        batcher.close()
    assert [each.step for each in updates if each.preview is None] == list(range(STEPS + 1))
    assert sum(each.preview is not None for each in updates) == 2


def test_a_processors_work_is_done_when_it_was_given():
    watch = clock.of("cpu").start()
    watch.stop()
    assert watch.is_done
    assert 0 <= watch.seconds() < 60


def test_a_card_has_its_own_clock():
    assert isinstance(clock.of("cuda:1"), clock.CudaClock)


class Stream:
    """What torch calls a stream, writing down what it is asked to do."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def wait_stream(self, other) -> None:
        self._log.append("wait")

    def synchronize(self) -> None:
        self._log.append("synchronize")

    def __enter__(self) -> None:
        self._log.append("enter")

    def __exit__(self, *_) -> None:
        self._log.append("leave")


@pytest.fixture
def log(monkeypatch):
    entries: list[str] = []
    module = second_device._module
    fake = {
        "Stream": lambda device: Stream(entries),
        "default_stream": lambda device: "steps",
        "stream": lambda stream: stream,
    }
    for name, value in fake.items():
        monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setattr(
        second_device.CardTensor, "record_stream", lambda _, stream: entries.append(stream)
    )
    streams._stream.cache_clear()
    yield entries
    streams._stream.cache_clear()


def test_encoders_have_a_stream_of_their_own(make_on, log):  # noqa: F811
    engine = make_on("sd2", "card")
    edit = engine.begin(request())
    assert log[:4] == ["wait", "enter", "leave", "synchronize"]
    handed_over = list(streams.tensors(edit.prepared))
    assert any(tensor is edit.prepared[0].latents for tensor in handed_over)
    on_card = [tensor for tensor in handed_over if tensor.device.type == "card"]
    assert log[4:] == ["steps"] * len(on_card)
    log.clear()
    engine.run([request()])
    assert log.count("synchronize") == 2


def test_encoders_that_take_turns_with_the_denoiser_share_its_stream(make_on, log):  # noqa: F811
    engine = make_on("sd2", "card")
    engine.model().checkpoint.take_turns = True
    engine.begin(request())
    assert log == []


def test_tensors_are_found_wherever_a_prepared_image_holds_them():
    one, two = torch.zeros(1), torch.ones(1)
    assert list(streams.tensors({"a": [one, 3, ("x", two)], "b": None})) == [one, two]

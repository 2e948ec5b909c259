"""Several devices behind one queue: the same bytes, nothing lost, at every way in."""

from __future__ import annotations

import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import yaml

from overpaint.apps.settings import ModelSettings, ServerSettings, SessionSettings, Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints import placement
from overpaint.core.errors import Overloaded, UnsupportedOption
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.clock import HostClock
from tests import second_device
from tests.apps.conftest import desk, overpaint, pixels  # noqa: F401 - fixtures
from tests.apps.server.conftest import edit, from_b64, serving
from tests.conftest import box_mask, picture
from tests.datasets.conftest import noisy

WAIT = 120
COUNT = 10
"""Edits, by default: enough that each of two devices has several."""
BOTH = "card:0,card:1"


def requests(count: int, steps: int = 2) -> list[EditRequest]:
    return [
        EditRequest(
            image=Picture.from_pil(picture(64, 64, seed=seed)),
            prompt=f"a red cat, number {seed}",
            mask=box_mask(64, 64),
            seed=seed,
            options={"num_inference_steps": steps},
        )
        for seed in range(count)
    ]


def open_batcher(checkpoint_folder, devices, **arguments) -> Batcher:
    settings = Settings(device=devices, dtype="float32")
    engines = build.engines(str(checkpoint_folder("sd2")), settings=settings)
    # Images of one pass agree within rounding; each alone has the same bytes everywhere.
    return Batcher(engines, width=1, **arguments)


@pytest.fixture
def make_batcher(cards, checkpoint_folder):
    """(**arguments of `Batcher`) → batcher on sd2 and both cards, closed after the test."""
    made = []

    def batcher(**arguments) -> Batcher:
        made.append(open_batcher(checkpoint_folder, BOTH, **arguments))
        return made[-1]

    yield batcher
    for each in made:
        each.close()


def results(batcher: Batcher, count=COUNT, **arguments) -> list[bytes]:
    tickets = [batcher.submit(each, **arguments) for each in requests(count)]
    return [ticket.result(WAIT).images[0].tobytes() for ticket in tickets]


@pytest.fixture(scope="module")
def expected(checkpoint_folder) -> list[bytes]:
    """What one device makes of the requests."""
    with second_device.plugged_in():
        batcher = open_batcher(checkpoint_folder, "card:0")
        try:
            return results(batcher)
        finally:
            batcher.close()


def breaking(engine, error: BaseException, after: int = 0, method: str = "step") -> threading.Event:
    """From its call number `after` on, a method of an engine raises."""
    work, calls, broken = getattr(engine, method), [], threading.Event()

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            broken.set()
            raise error
        return work(*args, **kwargs)

    setattr(engine, method, call)
    return broken


def test_edits_are_spread_and_have_the_bytes_of_one_device(make_batcher, expected):
    batcher = make_batcher()
    assert results(batcher) == expected
    assert [device.passes > 0 for device in batcher.devices] == [True, True]
    assert batcher.passes == COUNT * 2


def test_models_are_loaded_on_every_device(make_batcher, cards):
    batcher = make_batcher()
    gc.collect()  # what earlier tests held
    before = [card.held for card in cards]
    name = batcher.engine.default_model
    batcher.load(name).result(WAIT)
    weights = batcher.engine.models.size
    assert weights > 0
    assert all(card.held - held >= weights for card, held in zip(cards, before, strict=True))


def test_a_model_that_one_device_cannot_load_is_loaded_on_the_other(make_batcher, caplog):
    batcher = make_batcher()
    breaking(batcher.engines[1], RuntimeError("no"), method="model")
    assert batcher.load(batcher.engine.default_model).result(WAIT) is None
    assert "cannot be loaded on one of the devices" in caplog.text
    breaking(batcher.engines[0], RuntimeError("neither"), method="model")
    with pytest.raises(RuntimeError, match="neither"):
        batcher.load(batcher.engine.default_model).result(WAIT)


class TestADeviceThatFails:
    @pytest.mark.parametrize("method", ["step", "begin", "decode"])
    def test_loses_no_edit(self, make_batcher, expected, caplog, method):
        batcher = make_batcher(max_images=2)  # so that edits are left to be tried on it
        breaking(batcher.engines[1], RuntimeError("it broke"), after=1, method=method)
        assert results(batcher) == expected
        assert batcher.devices[0].serves
        assert not batcher.devices[1].serves
        assert "card:1 is not used any more" in caplog.text
        assert results(batcher, 4) == expected[:4]

    def test_at_the_word_of_the_accelerator(self, make_batcher, expected):
        batcher = make_batcher()
        error = torch.AcceleratorError("CUDA error: device-side assert triggered")
        breaking(batcher.engines[0], error, after=2)
        assert results(batcher, previews=1) == expected
        assert batcher.devices[0].error is error

    def test_that_reports_it_when_it_is_waited_for(self, make_batcher, expected):
        """A card computes later than it is told to, and says only then what went wrong."""
        batcher = make_batcher()
        clock = LateErrors(after=3)
        batcher.engines[1].clock = clock
        assert results(batcher) == expected
        assert batcher.devices[1].error is clock.error

    @pytest.mark.parametrize("method", ["step", "begin"])
    def test_because_its_thread_dies(self, make_batcher, expected, method):
        batcher = make_batcher()
        error = SystemExit("killed")
        breaking(batcher.engines[1], error, after=1, method=method)
        assert results(batcher) == expected
        assert batcher.devices[1].error is error

    def test_an_edit_that_fails_everywhere_fails_alone(self, make_batcher, expected):
        batcher = make_batcher()
        for engine in batcher.engines:
            fail_on_seed(engine, 3)
        tickets = [batcher.submit(each) for each in requests(COUNT)]
        for seed, ticket in enumerate(tickets):
            if seed == 3:
                with pytest.raises(ValueError, match="seed 3"):
                    ticket.result(WAIT)
            else:
                assert ticket.result(WAIT).images[0].tobytes() == expected[seed]
        assert all(device.serves for device in batcher.devices)

    def test_nothing_is_accepted_when_none_is_left(self, make_batcher):
        batcher = make_batcher()
        for engine in batcher.engines:
            breaking(engine, SystemExit("killed"))
        tickets = [batcher.submit(each) for each in requests(4)]
        for ticket in tickets:
            assert isinstance(ticket.future.exception(WAIT).__cause__, SystemExit)
        with pytest.raises(Overloaded, match="no working device"):
            batcher.submit(requests(1)[0])


class LateErrors(HostClock):
    """The clock of a device that fails from its pass number `after` on."""

    def __init__(self, after: int) -> None:
        self.error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        self._left = after

    def start(self):
        self._left -= 1
        watch = super().start()
        if self._left < 0:
            watch.seconds = self._fail
        return watch

    def _fail(self) -> float:
        raise self.error


def fail_on_seed(engine, seed) -> None:
    work = engine.step

    def step(model, images):
        if any(image.seed == seed for image in images):
            raise ValueError(f"seed {seed}")
        return work(model, images)

    engine.step = step


class TestNames:
    @pytest.mark.parametrize(
        ("setting", "names"),
        [
            ("auto", ["cpu"]),
            ("all", ["card:0", "card:1"]),
            ("card", ["card:0"]),
            ("card:1", ["card:1"]),
            ("card:1, card:0", ["card:1", "card:0"]),
            ("cpu", ["cpu"]),
        ],
    )
    def test_a_setting_means(self, cards, setting, names):
        assert [str(device) for device in placement.devices_for(setting)] == names

    @pytest.mark.parametrize(
        ("setting", "why"),
        [
            ("card:0,card:7", "'card:7' is not here; there is: card:0, card:1, cpu"),
            ("mps", "'mps' is not here"),
            ("xpu:0", "'xpu:0' is not here"),
            ("card:1,card:1", "names card:1 twice"),
            ("card,card:0", "names card:0 twice"),
            ("card:0,cpu", "name devices of one kind"),
            ("all,card:0", "'all' stands alone"),
        ],
    )
    def test_what_cannot_be_meant(self, cards, setting, why):
        with pytest.raises(UnsupportedOption, match=why) as refused:
            placement.devices_for(setting)
        assert refused.value.field == "device"

    def test_without_cards_all_is_the_processor(self):
        assert [str(device) for device in placement.devices_for("all")] == ["cpu"]

    def test_what_runs_on_one_device_wants_one(self, cards, checkpoint_folder):
        with pytest.raises(UnsupportedOption, match="2 devices, and this runs on one"):
            build.engine(str(checkpoint_folder("sd2")), device=BOTH, settings=Settings())
        engine = build.engine(str(checkpoint_folder("sd2")), settings=Settings(device=BOTH))
        assert engine.device == "card:0"


@pytest.mark.parametrize("devices", ["auto", "all", BOTH])
def test_a_model_without_weights_needs_no_device(cards, devices):
    batcher = Batcher(build.engines("erase", settings=Settings(device=devices)))
    request = EditRequest(image=Picture.from_pil(picture(64, 64)), mask=box_mask(64, 64))
    try:
        assert batcher.submit(request).result(WAIT).images
        assert all(device.serves for device in batcher.devices)
    finally:
        batcher.close()


class TestTheServer:
    @pytest.fixture
    def server(self, cards, checkpoint_folder, tmp_path):
        settings = Settings(
            device=BOTH,
            dtype="float32",
            models={"sd2": ModelSettings(family="sd2", folder=checkpoint_folder("sd2"))},
            server=ServerSettings(models=("sd2",)),
            sessions=SessionSettings(folder=tmp_path / "sessions"),
        )
        with serving(settings) as running:
            yield running

    def answers(self, server, count=8) -> list[bytes]:
        def ask(seed):
            answer = server.client.post("/v1/edits", json=edit(seed))
            assert answer.status_code == 200, answer.text
            return from_b64(answer.json()["images"][0]).tobytes()

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(ask, range(count)))

    def test_says_what_each_device_does(self, server):
        self.answers(server)
        assert server.client.get("/readyz").json() == {
            "status": "ready",
            "devices": {"card:0": "ok", "card:1": "ok"},
        }
        for device in ("card:0", "card:1"):
            label = f'{{device="{device}"}}'
            assert server.metric(f"overpaint_device_passes_total{label}") > 0
            assert server.metric(f"overpaint_device_bytes{label}") > 0
            assert server.metric(f"overpaint_device_model_bytes{label}") > 0
            server.until(lambda: server.metric(f"overpaint_device_images{label}") == 0)  # noqa: B023
            assert server.metric(f"overpaint_device_up{label}") == 1

    def test_goes_on_when_one_fails(self, server):
        engine = server.service.batcher.engines[1]
        error = torch.AcceleratorError("CUDA error: unspecified launch failure")
        broken = breaking(engine, error, after=1)
        self.answers(server)
        assert broken.is_set()
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["devices"] == {"card:0": "ok", "card:1": "failed"}
        assert server.metric('overpaint_device_up{device="card:1"}') == 0
        self.answers(server, 2)


class TestTheCommandLine:
    def worked(self, cards) -> list[bool]:
        """Whether each card computed anything since the last call."""
        counts = [card.operators.total() for card in cards]
        for card in cards:
            card.operators.clear()
        return [count > 0 for count in counts]

    def test_batch(self, cards, overpaint, desk, checkpoint_folder):  # noqa: F811
        for folder in ("photos", "masks"):
            (desk / folder).mkdir()
        for seed in range(8):
            picture(64, 64, seed=seed).save(desk / "photos" / f"{seed}.png")
            box_mask(64, 64).save(desk / "masks" / f"{seed}.png")
        command = [
            "batch",
            "photos",
            "--prompt",
            "a red cat",
            "--mask-dir",
            "masks",
            "--dtype",
            "float32",
        ]
        command += ["--model", checkpoint_folder("sd2"), "-O", "num_inference_steps=2"]
        made = {}
        for device, busy in (("card:1", [False, True]), (BOTH, [True, True]), ("all", [True] * 2)):
            self.worked(cards)
            ran = overpaint(*command, "-o", f"out-{device}", "--device", device)
            assert ran.code == 0, ran.err
            assert self.worked(cards) == busy
            files = sorted((desk / f"out-{device}" / "pictures").iterdir())
            made[device] = [(file.name, pixels(file).tobytes()) for file in files]
        assert len(made["all"]) == 8
        assert made[BOTH] == made["card:1"] == made["all"]

    def test_a_data_set(self, cards, overpaint, desk, checkpoint_folder):  # noqa: F811
        (desk / "in").mkdir()
        for seed in range(6):
            noisy(seed, (64, 64)).save(desk / "in" / f"{seed}.png")
        recipe = {
            "model": str(checkpoint_folder("sd2")),
            "sources": [{"folder": "in", "licence": "CC0-1.0"}],
            "prompt": "a {colour} disc",
            "axes": {"colour": ["red", "blue"]},
            "quota": 3,
            "mask": {"box": [0.2, 0.2, 0.8, 0.8]},
            "options": {"num_inference_steps": 2},
        }
        (desk / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        made = {}
        for device, busy in (("card:0", [True, False]), (BOTH, [True, True])):
            self.worked(cards)
            words = ["-o", f"out-{device}", "--device", device, "--dtype", "float32", "--json"]
            ran = overpaint("collect", "recipe.yaml", *words)
            assert ran.code == 0, ran.err
            assert self.worked(cards) == busy
            files = sorted((desk / f"out-{device}" / "data").rglob("*.png"))
            made[device] = [pixels(file).tobytes() for file in files]
        assert made[BOTH] == made["card:0"]

    def test_one_edit_takes_the_first_of_the_settings_devices(
        self,
        cards,
        overpaint,  # noqa: F811
        desk,  # noqa: F811
        checkpoint_folder,
    ):
        (desk / "overpaint.toml").write_text('device = "card:1,card:0"')
        command = ["inpaint", "photo.png", "a red cat", "--mask", "mask.png", "--json"]
        command += ["--model", checkpoint_folder("sd2"), "-O", "num_inference_steps=1"]
        self.worked(cards)
        ran = overpaint(*command, "-o", "one.png")
        assert ran.code == 0, ran.err
        assert self.worked(cards) == [False, True]
        refused = overpaint(*command, "-o", "two.png", "--device", BOTH)
        assert refused.code == 2
        assert "name that one" in json.loads(refused.out or refused.err)["error"]["message"]

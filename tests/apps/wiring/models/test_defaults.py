"""Which model answers where none is named, what a toy says of itself, and what is recommended."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import overpaint
from overpaint.apps.settings import Defaults, ModelSettings, Settings
from overpaint.apps.wiring.models import build, catalogue, defaults
from overpaint.checkpoints.files import hub
from overpaint.checkpoints.machine import Machine, fit
from overpaint.core import models
from overpaint.core.models import BUILTIN, ModelSpec
from tests.conftest import box_mask, picture

pytestmark = pytest.mark.usefixtures("desk")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LAPTOP = Machine("cpu", 16, 16)
CARD = Machine("cuda", 24, 64)
SMALL_CARD = Machine("cuda", 6, 32)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A cache of pulled models that is empty."""
    return Settings(cache=tmp_path / "cache")


def put_there(name: str, settings: Settings) -> None:
    """What a pull leaves behind of a known model, with one file of its."""
    spec = catalogue.find_model(name, settings)
    assert settings.cache is not None
    place = settings.cache / f"models--{spec.location.replace('/', '--')}"
    file = place / "snapshots" / COMMIT / "model_index.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}", encoding="utf-8")
    record = {
        "repository": spec.location,
        "commit": COMMIT,
        "files": {file.name: vars(hub._fingerprint(file))},
    }
    (place / "overpaint").mkdir()
    name = f"{spec.revision or 'main'}.json"
    (place / "overpaint" / name).write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("here", "inpaint", "edit"),
    [
        ((), "tiny-flex2", "tiny-kontext"),
        (("sd2",), "sd2", "tiny-kontext"),
        (("sd2", "flex2"), "flex2", "tiny-kontext"),
        (("kontext",), "tiny-flex2", "kontext"),
    ],
)
def test_the_best_model_that_is_here_answers(settings, here, inpaint, edit):
    for name in here:
        put_there(name, settings)
    assert defaults.choose("inpaint", settings) == inpaint
    assert defaults.choose("edit", settings) == edit
    assert defaults.choose("erase", settings) == "erase"
    assert defaults.choose("extend", settings) == inpaint


def test_a_name_in_the_settings_wins(settings):
    put_there("flex2", settings)
    named = settings.model_copy(update={"defaults": Defaults(inpaint="sd2")})
    assert defaults.choose("inpaint", named) == "sd2"
    assert defaults.resolved(named).defaults == Defaults(
        inpaint="sd2", edit="tiny-kontext", erase="erase", extend="flex2"
    )


def test_the_order_may_name_models_that_are_not_known_yet(settings, monkeypatch):
    monkeypatch.setitem(models.PREFERRED, "edit", ("nobody-knows-it", "kontext"))
    assert defaults.choose("edit", settings) == "tiny-kontext"
    put_there("kontext", settings)
    assert defaults.choose("edit", settings) == "kontext"


@pytest.mark.parametrize("task", models.EDIT_TASKS)
def test_models_for_commercial_use_come_first(task):
    known = {spec.name: spec for spec in BUILTIN}
    order = [known[name].commercial for name in models.PREFERRED[task] if name in known]
    assert order == sorted(order, reverse=True)


def test_every_known_model_has_a_place_in_the_order_of_its_task(settings):
    for spec in BUILTIN:
        task = defaults.task_of(spec)
        assert task is not None
        assert spec.name in models.PREFERRED[task], spec.name


def test_a_block_takes_one_of_its_family(settings, checkpoint_folder):
    own = {"mine": ModelSettings(family="sd2", folder=checkpoint_folder("sd2"))}
    assert defaults.choose_of_family("sd2", "inpaint", settings) == "tiny-sd2"
    with_own = settings.model_copy(update={"models": own})
    assert defaults.choose_of_family("sd2", "inpaint", with_own) == "mine"
    put_there("sd2", settings)
    assert defaults.choose_of_family("sd2", "inpaint", with_own) == "sd2"
    put_there("flex2", settings)  # which 'auto' would take
    assert defaults.choose_of_family("sd2", "inpaint", with_own) == "sd2"
    assert defaults.choose_of_family("flex2", "inpaint", with_own) == "flex2"


class TestToys:
    def edit(self, engine):
        options = {"num_inference_steps": 1}
        return engine.edit(picture(), "a circle", mask=box_mask(), seed=1, options=options)

    def test_every_result_says_so(self, settings):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(defaults, "this_machine", lambda: LAPTOP)
            result = self.edit(build.engine(settings=settings, device="cpu"))
        (said,) = [each for each in result.warnings if defaults.TOY in each]
        assert said.startswith("model: 'tiny-flex2' is a toy")
        real = defaults.recommend("inpaint", settings, LAPTOP).spec
        assert f"`overpaint pull {real.name}` ({real.size}, {real.licence})" in said

    def test_what_a_server_says_when_it_starts(self, settings):
        said = defaults.notices(settings)
        assert ["tiny-flex2" in said[0], "tiny-kontext" in said[1], len(said)] == [True, True, 2]
        put_there("flex2", settings)
        (edit,) = defaults.notices(settings)
        assert "tiny-kontext" in edit
        chosen = Defaults(inpaint="tiny-flex2", edit="tiny-kontext", extend="tiny-flex2")
        assert defaults.notices(settings.model_copy(update={"defaults": chosen})) == []

    def test_one_that_was_named_says_nothing(self, settings):
        assert self.edit(build.engine("tiny-sd2", settings=settings)).warnings == ()
        chosen = settings.model_copy(update={"defaults": Defaults(inpaint="tiny-sd2")})
        assert self.edit(build.engine(settings=chosen)).warnings == ()

    def test_an_engine_of_the_library_warns_when_it_is_loaded(self, monkeypatch):
        with pytest.warns(UserWarning, match="is a toy"):
            overpaint.load(dtype="float32")

    def test_the_command_line_says_so(self, overpaint, desk):
        (desk / "overpaint.toml").write_text("cache = 'cache'", encoding="utf-8")
        words = ("photo.png", "a red circle", "--mask", "mask.png", "-O", "num_inference_steps=1")
        ran = overpaint("inpaint", *words)
        assert "is a toy" in " ".join(ran.err.split())
        told = overpaint("inpaint", *words, "--json").json["warnings"]
        assert any(defaults.TOY in each for each in told)
        named = overpaint("inpaint", *words, "--model", "tiny-flex2", "--json").json["warnings"]
        assert not any(defaults.TOY in each for each in named)


@pytest.mark.parametrize(
    ("task", "machine", "name"),
    [
        ("inpaint", LAPTOP, "sdxl"),
        ("inpaint", CARD, "flex2"),
        ("inpaint", SMALL_CARD, "sd2"),
        ("erase", LAPTOP, "erase"),
    ],
)
def test_a_model_is_recommended_for_the_machine(settings, task, machine, name):
    found = defaults.recommend(task, settings, machine)
    assert found.spec.name == name
    assert str(machine) in found.reason or found.spec.source == "none"


def test_the_reason_says_what_spoke_against_better_ones(settings):
    reason = defaults.recommend("inpaint", settings, SMALL_CARD).reason
    assert "flex2, which is preferred, fits block by block, slower" in reason


@pytest.mark.parametrize(
    ("memory_gb", "size_gb", "machine", "fits", "quick"),
    [
        (16, 26, CARD, True, True),
        (30, 34, CARD, True, False),
        (30, 90, CARD, False, False),
        (5, 5, LAPTOP, True, True),
        (11, 11, LAPTOP, True, False),
        (0, 20, LAPTOP, False, False),
        (0, 0, LAPTOP, None, False),
    ],
)
def test_what_fits(memory_gb, size_gb, machine, fits, quick):
    spec = ModelSpec("m", "sd2", "hub", "owner/m", size_gb=size_gb, memory_gb=memory_gb)
    verdict = fit(spec, machine)
    assert (verdict.fits, verdict.is_quick) == (fits, quick)
    assert fit(replace(spec, source="none"), machine).fits

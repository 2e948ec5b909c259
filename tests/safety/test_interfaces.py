"""Every way in meets the same policy: what it refuses is computed by none of them."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from functools import cache

import pytest
from PIL import Image

import overpaint
from overpaint.apps import settings as settings_
from overpaint.apps.server.errors import response
from overpaint.apps.wiring.models import build
from overpaint.core.errors import ContentBlocked
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.safety.policy import Policy
from tests.apps.server.conftest import edit as native_body
from tests.apps.server.conftest import png, serving
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.conftest import box_mask, picture
from tests.safety.conftest import BAD
from tests.safety.ways import FEW, WAYS, Desk

BLOCK = 'blocklist = "words.toml"'


def serve_all():
    """Settings that serve all models of the settings file."""
    settings = settings_.load()
    server = settings.server.model_copy(update={"models": tuple(settings.models)})
    return settings.model_copy(update={"server": server})


class Reddish:
    """A checker of pictures that minds red ones."""

    name = "reddish"

    def check(self, content):
        red, green, blue = content.resize((1, 1)).getpixel((0, 0))
        return {"violence": 6 if red > 2 * max(green, blue, 1) else 0}


class Everything:
    """A checker of pictures that minds them all from the `first` on."""

    name = "everything"

    def __init__(self, first=1):
        self.seen, self.first = 0, first

    def check(self, content):
        self.seen += 1
        return {"sexual": 6 if self.seen >= self.first else 0}


def red():
    return Image.new("RGB", (64, 64), (255, 0, 0))


def edited(engine, image=None, **more):
    return engine.edit(
        image or picture(64, 64), "cat", mask=box_mask(64, 64), seed=1, **FEW, **more
    )


@pytest.fixture
def sd2(make_engine):
    return make_engine("sd2")


class TestPrompts:
    """A blocklist from the settings."""

    @pytest.fixture(autouse=True)
    def _settings(self, settings_file):
        settings_file(BLOCK)

    @pytest.fixture
    def desk(self, tmp_path, monkeypatch):
        picture(64, 64).save(tmp_path / "photo.png")
        box_mask(64, 64).save(tmp_path / "mask.png")
        monkeypatch.chdir(tmp_path)
        for variable in ("XDG_DATA_HOME", "LOCALAPPDATA"):
            monkeypatch.setenv(variable, str(tmp_path / "data"))
        with ExitStack() as running:
            yield Desk(tmp_path, cache(lambda: running.enter_context(serving(serve_all()))))

    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
    def test_none_lets_it_through(self, computed, desk, way):
        way.check(way.ask(desk))
        assert computed == []

    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
    def test_each_computes_where_nothing_is_checked(self, settings_file, computed, desk, way):
        """So the policy alone is what stops them in the test above."""
        settings_file('mode = "off"')
        with suppress(pytest.fail.Exception, AssertionError, LookupError):
            way.ask(desk)
        assert "predict" in computed

    def test_native_api_tells_what_was_checked(self, desk):
        answer = desk.http.post("/v1/edits", json=native_body(model="my-sd2")).json()
        assert answer["safety"] == [
            {"stage": "prompt", "index": 0, "severities": {"blocklist": 0}, "flagged": []}
        ]

    @pytest.mark.parametrize("stream", [False, True])
    def test_openai_tells_it_too(self, desk, stream):
        files = {"image": png(picture(64, 64)), "mask": png(transparent_mask())}
        form = {"model": "my-sd2", "prompt": "cat", "stream": str(stream).lower(), **FEW}
        answer = desk.http.post("/v1/images/edits", data=form, files=files)
        lines = [each for each in answer.text.splitlines() if each.startswith("data: {")]
        told = json.loads(lines[-1].removeprefix("data: ")) if stream else answer.json()
        assert [each["stage"] for each in told["safety"]] == ["prompt"]

    def test_harmless_prompts_pass_and_say_what_was_checked(self):
        result = edited(overpaint.load())
        assert [each.as_json() for each in result.safety] == [
            {"stage": "prompt", "index": 0, "severities": {"blocklist": 0}, "flagged": []}
        ]
        assert result.flagged == (None,)


class TestPictures:
    @pytest.mark.parametrize("place", ["image", "control", "references"])
    def test_input_pictures(self, computed, make_engine, place):
        engine = make_engine("kontext" if place == "references" else "flex2")
        engine.policy = Policy(mode="block", image_checkers=[Reddish()])
        given = {"image": red()} if place == "image" else {}
        if place == "control":
            given["control"] = red()
        if place == "references":
            given["references"] = [red()]
        with pytest.raises(ContentBlocked) as blocked:
            edited(engine, **given)
        assert (blocked.value.stage, blocked.value.category) == ("input_image", "violence")
        assert computed == []

    def test_output_pictures(self, sd2):
        sd2.policy = Policy(mode="block", image_checkers=[Everything(first=3)])
        with pytest.raises(ContentBlocked) as blocked:
            edited(sd2, num_images=2)
        assert blocked.value.stage == "output_image"

    def test_annotated_pictures_are_handed_over(self, sd2):
        sd2.policy = Policy(mode="annotate", image_checkers=[Everything(first=3)])
        result = edited(sd2, num_images=2)
        assert result.flagged == (False, True)
        assert [(each.stage, each.index) for each in result.safety] == [
            ("input_image", 0),
            ("output_image", 0),
            ("output_image", 1),
        ]

    def test_unchecked_is_none(self, sd2):
        result = edited(sd2)
        assert (result.safety, result.flagged) == (None, (None,))

    def test_erased_pictures_are_checked_too(self, make_engine):
        erase = make_engine("erase")
        erase.policy = Policy(mode="block", image_checkers=[Everything(first=2)])
        with pytest.raises(ContentBlocked):
            erase.edit(picture(64, 64), mask=box_mask(64, 64))


class TestPreviews:
    def test_in_this_process(self, sd2):
        sd2.policy = Policy(mode="block", image_checkers=[Everything(first=2)])

        def look(progress):
            progress.preview()

        with pytest.raises(ContentBlocked):
            edited(sd2, on_progress=look)

    def test_from_the_batcher(self, sd2):
        """The first picture seen is the input; the previews come next and are withheld."""
        sd2.policy = Policy(mode="annotate", image_checkers=[Everything(first=99)])
        assert len(self._previews(sd2)) == 1
        sd2.policy = Policy(mode="block", image_checkers=[Everything(first=2)])
        with pytest.raises(ContentBlocked):
            self._previews(sd2)
        assert self.seen == []

    def _previews(self, engine):
        self.seen = []
        batcher = Batcher(engine)
        request = EditRequest(
            image=Picture.from_pil(picture(64, 64)),
            prompt="cat",
            mask=box_mask(64, 64),
            options={"num_inference_steps": 4},
        )
        try:
            batcher.submit(
                request,
                previews=1,
                on_update=lambda update: update.preview and self.seen.append(update),
            ).result(60)
        finally:
            batcher.close()
        return self.seen


class TestSettings:
    def test_a_mode_without_checkers_is_an_error(self, settings_file):
        settings_file('mode = "block"')
        with pytest.raises(overpaint.errors.InvalidSettings, match="needs a checker"):
            settings_.load()

    def test_off_is_said_explicitly(self, settings_file, computed):
        settings_file('mode = "off"', BLOCK)
        engine = build.engine()
        assert engine.policy.checks is False
        result = engine.edit(picture(64, 64), BAD, mask=box_mask(64, 64), **FEW)
        assert result.safety is None

    def test_thresholds_by_category(self, settings_file):
        settings_file(BLOCK, "threshold = 4", "thresholds = { hate = 0 }")
        policy = build.engine(lazy=True).policy
        assert (policy.mode, policy.thresholds["hate"], policy.thresholds["sexual"]) == (
            "block",
            0,
            4,
        )

    def test_a_missing_list_is_an_error_at_the_start(self, settings_file):
        settings_file('blocklist = "none.toml"')
        with pytest.raises(overpaint.errors.InvalidSettings, match="cannot be read"):
            build.engine(lazy=True)


def test_an_unreachable_checker_is_a_503():
    error = overpaint.errors.SafetyUnavailable("no answer")
    assert response(error, "/v1/edits").status_code == 503

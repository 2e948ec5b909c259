"""One comparison decides, for every category and stage; what fails, fails closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from overpaint.core.errors import ContentBlocked, SafetyUnavailable
from overpaint.core.imaging.images import Picture
from overpaint.core.safety import CATEGORIES
from overpaint.core.types import EditRequest
from overpaint.safety.policy import Policy

SECRET = "a very private wish"
WHITE, RED = (255, 255, 255), (255, 0, 0)


@dataclass
class Says:
    """Says the same of everything that `concerns` it, and nothing bad of the rest."""

    category: str
    severity: Any
    concerns: Callable[[Any], bool] = lambda _: True
    name: str = "says"
    seen: int = 0

    def check(self, content: Any) -> Mapping[Any, Any]:
        self.seen += 1
        return {self.category: self.severity if self.concerns(content) else 0}


class Fails:
    name = "fails"

    def check(self, content: Any) -> Mapping[Any, Any]:
        raise RuntimeError(f"cannot judge {content}")


def request(**given: Any) -> EditRequest:
    return EditRequest(image=Picture(Image.new("RGB", (8, 8), WHITE)), **given)


def policy(category: str, severity: int, threshold: int, mode: str = "block") -> Policy:
    says = (Says(category, severity),)
    thresholds = dict.fromkeys(CATEGORIES, 7) | {category: threshold}
    return Policy(mode=mode, thresholds=thresholds, text_checkers=says, image_checkers=says)


def run(stage: str, policy: Policy) -> Any:
    """Let the policy see something of that stage alone."""
    if stage == "output_image":
        return policy.check_outputs([Picture(Image.new("RGB", (8, 8)))])
    words = {"prompt": {"prompt": SECRET}, "negative_prompt": {"negative_prompt": SECRET}}
    if stage == "input_image":
        return policy.check_request(request())
    texts = Policy(
        mode=policy.mode, thresholds=policy.thresholds, text_checkers=policy.text_checkers
    )
    return texts.check_request(request(**words[stage]))


class TestThresholds:
    @pytest.mark.parametrize("stage", ["prompt", "negative_prompt", "input_image", "output_image"])
    @pytest.mark.parametrize("category", CATEGORIES)
    @pytest.mark.parametrize("threshold", range(8))
    @pytest.mark.parametrize("severity", [0, 2, 4, 6])
    def test_at_or_above_the_threshold_blocks(self, stage, category, threshold, severity):
        checked = policy(category, severity, threshold)
        if severity < threshold:
            (verdict,) = run(stage, checked)
            assert (verdict.stage, verdict.flagged) == (stage, ())
            assert dict(verdict.severities) == {category: severity}
            return
        with pytest.raises(ContentBlocked) as blocked:
            run(stage, checked)
        assert (blocked.value.stage, blocked.value.category) == (stage, category)
        assert SECRET not in str(blocked.value)

    def test_the_same_table_decides_what_is_annotated(self):
        for threshold in range(8):
            (verdict,) = run("prompt", policy("hate", 4, threshold, "annotate"))
            assert verdict.flagged == (("hate",) if threshold <= 4 else ())

    def test_the_worst_category_is_named(self):
        says = (Says("hate", 2), Says("violence", 6), Says("violence", 4))
        with pytest.raises(ContentBlocked) as blocked:
            Policy(mode="block", text_checkers=says).check_request(request(prompt="x"))
        assert blocked.value.category == "violence"


class TestWhatIsChecked:
    def test_off_asks_nobody(self):
        says = Says("hate", 6)
        off = Policy(mode="off", text_checkers=(says,), image_checkers=(says,))
        assert off.check_request(request(prompt=SECRET)) == ()
        assert off.check_outputs([request().image]) == ()
        assert says.seen == 0

    def test_without_image_checkers_pictures_stay_unchecked(self):
        texts = Policy(mode="block", text_checkers=(Says("hate", 0),))
        assert [each.stage for each in texts.check_request(request(prompt="x"))] == ["prompt"]
        assert texts.check_outputs([request().image]) == ()

    def test_words_are_judged_before_pictures(self):
        images = Says("hate", 0)
        both = Policy(mode="block", text_checkers=(Says("hate", 6),), image_checkers=(images,))
        with pytest.raises(ContentBlocked):
            both.check_request(request(prompt="x"))
        assert images.seen == 0

    def test_control_and_references_are_input_pictures(self):
        def is_red(image: Image.Image) -> bool:
            return image.getpixel((0, 0)) == RED

        red, white = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), WHITE)
        reds = Policy(mode="annotate", image_checkers=(Says("violence", 6, is_red),))
        verdicts = reds.check_request(request(control=white, references=(white, red)))
        assert [each.index for each in verdicts] == [0, 1, 2, 3]
        assert [bool(each.flagged) for each in verdicts] == [False, False, False, True]

    @pytest.mark.parametrize("hidden", ["colours", "transparency"])
    def test_transparency_hides_nothing(self, hidden):
        """Something red below full transparency; a shape that only the transparency draws."""
        colour = RED if hidden == "colours" else WHITE
        alpha = Image.new("L", (8, 8), 0)

        def is_bad(image: Image.Image) -> bool:
            return image.getpixel((0, 0)) in (RED, (128, 128, 128))

        bad = Policy(mode="block", image_checkers=(Says("violence", 6, is_bad),))
        with pytest.raises(ContentBlocked):
            bad.check_outputs([Picture(Image.new("RGB", (8, 8), colour), alpha)])


class TestFailingClosed:
    @pytest.mark.parametrize("mode", ["annotate", "block"])
    def test_a_checker_that_fails_lets_nothing_pass(self, mode, caplog):
        fails = Policy(mode=mode, text_checkers=(Says("hate", 0), Fails()))
        with caplog.at_level(logging.DEBUG), pytest.raises(SafetyUnavailable) as failed:
            fails.check_request(request(prompt=SECRET))
        assert "fails" in str(failed.value)
        assert SECRET not in str(failed.value) + caplog.text
        assert failed.value.__context__ is None

    @pytest.mark.parametrize(
        ("category", "severity"),
        [("hate", None), ("hate", -1), ("hate", 8), ("hate", 2.0), ("hate", True), ("rude", 2)],
    )
    def test_no_severity_is_no_answer(self, category, severity):
        odd = Policy(mode="block", text_checkers=(Says(category, severity),))
        with pytest.raises(SafetyUnavailable, match="no severity"):
            odd.check_request(request(prompt="x"))

    def test_saying_nothing_is_no_answer(self):
        class Silent:
            name = "silent"

            def check(self, content):
                return {}

        with pytest.raises(SafetyUnavailable, match="silent"):
            Policy(mode="block", text_checkers=(Silent(),)).check_request(request(prompt="x"))

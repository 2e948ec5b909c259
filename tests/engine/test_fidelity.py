"""What a model does to a whole picture is taken back: outside an edit every byte is the input's."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from overpaint.core.compositing import UNSEEN
from overpaint.core.errors import InvalidMask
from overpaint.core.imaging import masks
from overpaint.core.types import EditRequest
from overpaint.engine import checking, intake
from overpaint.engine.engine import Engine
from overpaint.provenance import recipes
from tests import faults, faulty_family
from tests.conftest import box_mask, picture
from tests.faults import Fault

SIDE = 384


@pytest.fixture(scope="module")
def case():
    """A photo with a true edit of a fifth of it."""
    pictures = faults.pictures(SIDE, scenes=0)
    return max(faults.cases(pictures, 6, seed=12, most=0.2), key=lambda each: each.area.mean())


def edited(case, fault, **more):
    result = faulty_family.engine(case.after, fault).edit(case.before, "do it", seed=3, **more)
    return np.asarray(result.pictures[0].rgb), result


def two_boxes(case):
    """The picture with a large red box, and a small blue one in the far corner."""
    truth = case.before.copy()
    truth[40:160, 40:160] = (220, 30, 30)
    truth[340:370, 340:370] = (30, 30, 220)
    return truth


def far(area):
    return ~faults.grown(area, 24)


MOVED = Fault(shift=(5.3, -2.6), zoom=1.008, degrees=0.4, noise=2.0)


class TestWithoutAMask:
    @pytest.mark.parametrize(
        "fault",
        [
            MOVED,
            Fault(crop=(10, 6), noise=2.0),
            Fault(gain=(0.93, 1.0, 1.05), gamma=1.08, noise=2.0),
            Fault(sharpen=0.5, noise=1.0),
            Fault(noise=2.0),
        ],
        ids=["moved", "cropped", "tinted", "sharpened", "right"],
    )
    def test_what_no_edit_touched_is_the_input_and_the_edit_is_where_it_belongs(self, case, fault):
        pixels, result = edited(case, fault)
        assert (pixels[far(case.area)] == case.before[far(case.area)]).all()
        inside = case.area & ~faults.grown(~case.area, 4)
        error = np.abs(pixels.astype(float) - case.after)[inside].mean()
        raw = np.abs(fault.done_to(case.after, seed=4).astype(float) - case.after)[inside].mean()
        assert error < max(raw / 2, 7)
        assert result.measures[0]["areas"][0]["kept"] is True

    def test_what_changed_unseen_keeps_its_bytes(self, case):
        plain, _ = edited(case, Fault(noise=2.0))
        whole = Image.new("L", (SIDE, SIDE), 255)
        asked, _ = edited(case, Fault(noise=2.0), mask=whole)
        change, masked = (
            np.abs(each.astype(int) - case.before).max(axis=2) for each in (plain, asked)
        )
        assert (change > UNSEEN).any()
        assert not ((change > 0) & (change <= UNSEEN)).any()
        assert ((masked > 0) & (masked <= UNSEEN)).any()

    def test_the_result_says_what_the_model_had_done(self, case):
        _, result = edited(case, MOVED)
        found = result.measures[0]
        assert found["shift"] == pytest.approx(np.hypot(5.3, 2.6), abs=0.1)
        assert found["zoom"] == pytest.approx(0.8, abs=0.05)
        assert found["rotation"] == pytest.approx(0.4, abs=0.05)
        assert found["kept_psnr"] > 25
        assert any("moved the whole picture by 5.9 pixels" in each for each in result.warnings)
        assert result.recipe["measures"] == [found]
        _, right = edited(case, Fault(noise=2.0))
        assert (right.measures[0]["shift"], right.measures[0]["tint"]) == (0, 0)
        assert right.warnings == ()

    def test_areas_that_were_put_back_can_be_kept(self, case):
        engine = faulty_family.engine(two_boxes(case), Fault())
        plain = engine.edit(case.before, "do it", seed=1)
        assert [each["kept"] for each in plain.measures[0]["areas"]] == [True, False]
        assert any("1 change far from the edit was put back" in w for w in plain.warnings)
        for asked in ((1, 2), "1,2"):
            both = np.asarray(engine.edit(case.before, "do it", seed=1, keep_areas=asked).images[0])
            assert np.abs(both[346, 346] - [30.0, 30, 220]).max() <= 2
        assert (np.asarray(plain.images[0])[346, 346] == case.before[346, 346]).all()

    def test_what_is_far_from_the_target_is_put_back(self, case):
        target = box_mask(SIDE, SIDE, box=(330, 330, 380, 380))
        engine = faulty_family.engine(two_boxes(case), Fault())
        result = engine.edit(case.before, "do it", seed=1, target=target)
        assert [each["kept"] for each in result.measures[0]["areas"]] == [False, True]
        after = np.asarray(result.images[0])
        assert (after[:200, :200] == case.before[:200, :200]).all()
        nowhere = box_mask(SIDE, SIDE, box=(330, 10, 380, 60))
        none = engine.edit(case.before, "do it", seed=1, target=nowhere)
        assert (np.asarray(none.images[0]) == case.before).all()
        assert any("every change was put back" in each for each in none.warnings)
        with pytest.raises(InvalidMask, match="it marks nothing"):
            engine.edit(case.before, "do it", target=Image.new("L", (SIDE, SIDE)))
        masked = engine.edit(case.before, "do it", seed=1, target=target, mask=target)
        assert any("target: it has no effect" in each for each in masked.warnings)

    def test_a_segmenter_finds_the_target(self, case):
        class Corner:
            name = "corner"
            waits = False

            def place(self, picture, words):
                assert picture.size == (SIDE, SIDE)
                return {"the blue box": box_mask(SIDE, SIDE, box=(330, 330, 380, 380))}.get(words)

        engine = faulty_family.engine(two_boxes(case), Fault())
        engine.locator = Corner()
        result = engine.edit(case.before, "Paint the blue box.", seed=1)
        assert [each["kept"] for each in result.measures[0]["areas"]] == [False, True]
        assert result.recipe["target_found"] == {"by": "corner", "words": "the blue box"}
        assert recipes.areas_kept(result.recipe) == {"keep_areas": [2]}
        other = engine.edit(case.before, "Paint it.", seed=1)
        assert [each["kept"] for each in other.measures[0]["areas"]] == [True, False]
        assert recipes.areas_kept(other.recipe) == {}

    def test_a_tint_alone_is_the_edit(self, case):
        engine = faulty_family.engine(case.before, Fault(offset=(20, 8, -20)))
        result = engine.edit(case.before, "warmer", seed=1)
        assert result.measures[0]["changed"] == 1
        assert result.measures[0]["tint"] == 0

    def test_it_can_be_switched_off(self, case):
        pixels, result = edited(case, MOVED, hold=False)
        assert (pixels[far(case.area)] != case.before[far(case.area)]).any(axis=1).mean() > 0.5
        assert result.measures == ({},)
        _, raw = edited(case, MOVED, composite=False)
        assert np.array_equal(np.asarray(raw.images[0]), MOVED.done_to(case.after, seed=4))


class TestWithAMask:
    """The model's edit reaches 20 pixels beyond its mask."""

    MASK = box_mask(SIDE, SIDE, box=(120, 120, 240, 240))

    @pytest.fixture
    def engine(self, case):
        truth = case.before.copy()
        truth[130:230, 130:260] = (220, 30, 30)
        return faulty_family.engine(truth, Fault())

    def test_an_edit_that_is_cut_off_is_told(self, engine, case):
        result = engine.edit(case.before, "do it", mask=self.MASK, seed=1)
        after = np.asarray(result.images[0])
        outside = np.asarray(self.MASK) == 0
        assert (after[outside] == case.before[outside]).all()
        assert result.measures[0]["cut_off"] == pytest.approx(0.14, abs=0.03)
        assert any("was cut off" in each for each in result.warnings)

    def test_the_blend_follows_it_as_far_as_it_may(self, engine, case):
        result = engine.edit(case.before, "do it", mask=self.MASK, seed=1, follow=40)
        after = np.asarray(result.images[0])
        assert (np.abs(after[140:220, 240:252].astype(int) - (220, 30, 30)) <= 13).all()
        beyond = np.asarray(masks.grow(self.MASK, 40)) == 0
        assert (after[beyond] == case.before[beyond]).all()
        assert (after[150:200, :110] == case.before[150:200, :110]).all()
        assert not any("cut off" in each for each in result.warnings)
        bounded = engine.edit(case.before, "do it", mask=self.MASK, seed=1, follow=6)
        beyond = np.asarray(masks.grow(self.MASK, 6)) == 0
        assert (np.asarray(bounded.images[0])[beyond] == case.before[beyond]).all()
        assert any("was cut off" in each for each in bounded.warnings)


def test_a_model_repaints_more_than_what_is_blended(make_engine):
    before, mask = picture(), box_mask()
    engine = make_engine("sd2")
    few = {"seed": 1, "num_inference_steps": 2, "mask": mask}
    plain, more = (engine.edit(before, "a cat", **few, repaint_beyond=n) for n in (0, 16))
    outside = np.asarray(mask) == 0
    assert (np.asarray(more.images[0])[outside] == np.asarray(before)[outside]).all()
    assert not np.array_equal(np.asarray(more.images[0]), np.asarray(plain.images[0]))


class TestNoise:
    def checked(self, image: Image.Image, **options):
        request = EditRequest(
            image=intake.as_picture(image), prompt="x", seed=5, num_images=2, options=options
        )
        return checking.check(faulty_family.SPEC, request)

    def test_by_default_it_is_the_seed_s(self):
        assert self.checked(picture()).noise_seeds == (5, 6)

    def test_it_can_be_the_picture_s_too(self):
        asked = {"noise_from": "seed_and_picture"}
        one = self.checked(picture(), **asked).noise_seeds
        assert one == self.checked(picture(), **asked).noise_seeds
        assert len({*one, *self.checked(picture(seed=1), **asked).noise_seeds, 5, 6}) == 6
        alone = EditRequest(
            image=intake.as_picture(picture()), prompt="x", seed=6, options=dict(asked)
        )
        assert checking.check(faulty_family.SPEC, alone).noise_seeds == one[1:]

    def test_results_name_the_seed_that_was_asked_for(self, make_engine):
        engine: Engine = make_engine("kontext")
        few = {"seed": 5, "num_inference_steps": 2, "composite": False}
        result = engine.edit(picture(), "a cat", **few, noise_from="seed_and_picture")
        assert result.seeds == (5,)
        assert result.recipe["seeds"] == [5]
        plain = engine.edit(picture(), "a cat", **few)
        assert not np.array_equal(np.asarray(plain.images[0]), np.asarray(result.images[0]))


def test_recipes_from_before_make_what_they_made():
    assert recipes.options_since({"feather": 4}) == {"hold": False, "noise_from": "seed"}
    assert recipes.options_since({"hold": True, "noise_from": "seed"}) == {}

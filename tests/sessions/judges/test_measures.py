"""Numbers and judges on pictures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.metrics import structural_similarity

from overpaint.core.imaging.images import Picture
from overpaint.sessions.judges import judging, measures
from overpaint.sessions.judges.judging import JudgedEdit, Judgement, PixelJudge
from overpaint.sessions.judges.measures import Thresholds, compare
from tests.conftest import box_mask, picture

SIDE = 128


def photo() -> Image.Image:
    """A picture with details."""
    noise = np.random.default_rng(1).integers(0, 60, (SIDE, SIDE, 3))
    return Image.fromarray(np.uint8(np.asarray(picture(SIDE, SIDE)) * 0.7 + noise))


def painted(image: Image.Image, box, colour="red") -> Image.Image:
    changed = image.copy()
    changed.paste(colour, box)
    return changed


def of(before: Image.Image, after: Image.Image, region: Image.Image | None = None):
    return compare(Picture(before), Picture(after), region)


class TestComparison:
    def test_the_same_picture(self):
        found = of(photo(), photo())
        assert (found.changed, found.region, found.kept_identical) == (0, 0, 1)
        assert (found.kept_psnr, found.sharpness, found.colour_shift) == (99, 1, 0)
        assert found.kept_ssim == pytest.approx(1)

    def test_a_local_edit_keeps_the_rest(self):
        found = of(photo(), painted(photo(), (20, 20, 50, 50)))
        assert found.changed == pytest.approx(900 / SIDE**2, rel=0.02)
        assert 900 / SIDE**2 < found.region < 0.2
        assert (found.kept_identical, found.kept_psnr) == (1, 99)

    def test_noise_of_the_rest_is_drift(self):
        noise = np.random.default_rng(0).normal(0, 4, (SIDE, SIDE, 3))
        noisy = np.asarray(photo()) + noise
        found = of(photo(), Image.fromarray(np.uint8(np.clip(noisy.round(), 0, 255))))
        assert found.kept_psnr == pytest.approx(20 * np.log10(255 / 4), abs=0.3)
        assert found.kept_identical < 0.01

    def test_ssim_is_that_of_wang(self):
        blurred = photo().filter(ImageFilter.GaussianBlur(1))
        grey = [np.asarray(each.convert("L")) for each in (photo(), blurred)]
        theirs = structural_similarity(
            *grey, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        found = of(photo(), blurred, Image.new("L", (SIDE, SIDE)))
        assert found.kept_ssim == pytest.approx(theirs, abs=1e-3)

    def test_blur_is_softer_and_sharpening_harsher(self):
        nothing = Image.new("L", (SIDE, SIDE))
        blurred = photo().filter(ImageFilter.GaussianBlur(1))
        assert of(photo(), blurred, nothing).sharpness < 0.5
        assert of(blurred, photo(), nothing).sharpness > 2

    def test_a_tint_is_a_colour_shift(self):
        tinted = Image.blend(photo(), Image.new("RGB", (SIDE, SIDE), "red"), 0.05)
        assert of(photo(), tinted, Image.new("L", (SIDE, SIDE))).colour_shift > 2

    def test_where_nothing_is_kept_there_is_nothing_to_measure(self):
        found = of(photo(), photo(), Image.new("L", (SIDE, SIDE), 255))
        assert found.region == 1
        assert found.kept_psnr is None

    def test_another_size_is_compared_too(self):
        found = of(photo().resize((64, 64)), photo())
        assert 0 < found.changed <= 1

    def test_large_pictures_are_looked_at_small(self, monkeypatch):
        monkeypatch.setattr(measures, "WORKING_PIXELS", 64 * 64)
        after = painted(photo(), (20, 20, 50, 50))
        region = measures.changed_region(Picture(photo()), Picture(after))
        assert region.size == (64, 64)
        assert of(photo(), after).kept_psnr == 99


class TestThresholds:
    def test_each_says_what_went_past_it(self):
        found = {
            "kept_psnr": 30.0,
            "kept_ssim": 0.5,
            "similarity": 0.1,
            "colour_shift": 9.0,
            "sharpness": 0.5,
        }
        told = Thresholds().warnings(found, "the original")
        assert len(told) == 5
        assert told[0] == ("Beside the original, what should have stayed differs (PSNR 30.0 dB).")
        assert Thresholds().warnings(dict.fromkeys(found), "the original") == []
        fine = {**found, "kept_psnr": 99, "kept_ssim": 1, "similarity": 1, "colour_shift": 0}
        assert (
            Thresholds()
            .warnings({**fine, "sharpness": 1.3}, "it")[0]
            .startswith("Beside it, it became harsher")
        )


def asked(mask=None) -> JudgedEdit:
    return JudgedEdit(before=Picture(photo()), instruction="a red box", mask=mask)


class TestOutcome:
    @pytest.mark.parametrize(
        ("after", "mask", "said"),
        [
            (photo(), None, "nothing_changed"),
            (painted(photo(), (20, 20, 50, 50)), None, "done"),
            (Image.new("RGB", (SIDE, SIDE), "red"), None, "everything_changed"),
            (photo(), box_mask(SIDE, SIDE), "nothing_changed"),
            (painted(photo(), (40, 40, 80, 80)), box_mask(SIDE, SIDE), "done"),
            (painted(photo(), (0, 0, 20, 20)), box_mask(SIDE, SIDE), "nothing_changed"),
            (
                Image.new("RGB", (SIDE, SIDE), "red"),
                Image.new("L", (SIDE, SIDE), 255),
                "done",
            ),
        ],
    )
    def test_of_known_edits(self, after, mask, said):
        assert judging.outcome(asked(mask), Picture(after)) == said


class TestErased:
    """An eraser's fill looks like what is around it, however small."""

    def verdict(self, picture, box, after):
        mask = Image.new("L", picture.size)
        mask.paste(255, box)
        edit = JudgedEdit(before=Picture(picture), instruction="", mask=mask)
        return judging.outcome(edit, Picture(after))

    def test_a_speck_of_dust_on_a_large_picture_counts(self):
        clean = Image.new("RGB", (3000, 2000), (120, 140, 180))
        dusty = painted(clean, (1500, 1000, 1503, 1003))
        assert self.verdict(dusty, (1496, 996, 1507, 1507), clean) == "done"

    def test_a_faint_spot_counts(self):
        clean = Image.new("RGB", (SIDE, SIDE), (120, 140, 180))
        faint = clean.copy()
        faint.paste((121, 141, 182), (40, 40, 44, 44))
        assert self.verdict(faint, (36, 36, 48, 48), clean) == "done"

    def test_where_not_a_byte_differs_nothing_changed(self):
        clean = Image.new("RGB", (SIDE, SIDE), (120, 140, 180))
        assert self.verdict(clean, (36, 36, 48, 48), clean) == "nothing_changed"


class TestPixelJudge:
    def scores(self, mask, *candidates) -> list[float]:
        found = PixelJudge().judge(asked(mask), [Picture(each) for each in candidates])
        return [each.score for each in found]

    def test_without_a_mask_a_clear_small_change_wins(self):
        box = (20, 20, 50, 50)
        clear = painted(photo(), box)
        faint = Image.blend(photo(), clear, 0.12)
        whole = Image.new("RGB", (SIDE, SIDE), "red")
        scores = self.scores(None, clear, faint, whole, photo())
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] == 0

    def test_with_a_mask_change_all_over_it_wins(self):
        inside = (SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4)
        half = (SIDE // 4, SIDE // 4, SIDE // 2, 3 * SIDE // 4)
        spilt = painted(painted(photo(), inside), (0, 0, SIDE, 20))
        mask = box_mask(SIDE, SIDE)
        whole, part, more, none = self.scores(
            mask, painted(photo(), inside), painted(photo(), half), spilt, photo()
        )
        assert whole > part > none == 0
        assert whole > more


def test_rank_puts_what_did_nothing_last():
    scores = [Judgement(judge="x", score=score) for score in (0.9, 0.2, 0.5, 0.5)]
    ranked = judging.rank(scores, ["nothing_changed", "done", "done", "done"])
    assert ranked == [2, 3, 1, 0]

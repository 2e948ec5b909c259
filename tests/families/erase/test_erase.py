"""The eraser through the engine: odd masks and pictures, sources, shadows, progress, cost."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from overpaint.core.errors import Cancelled, DeadlineExceeded, InvalidMask, InvalidRequest
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from tests.conftest import box_mask, picture
from training.world.render import coverage, footprint, render
from training.world.scene import Background, Light, Scene, Thing


@pytest.fixture(scope="module")
def engine(make_engine):
    return make_engine("erase")


def noise(width, height, mode="RGB", seed=0):
    channels = len(mode)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values, mode)


def array(image):
    return np.asarray(image).astype(int)


def marked(mask):
    return np.asarray(mask) > 0


def several(*boxes, size=(96, 80)):
    mask = Image.new("L", size)
    for each in boxes:
        mask.paste(255, each)
    return mask


MASKS = {
    "border": several((40, 0, 60, 20)),
    "corner": several((70, 55, 96, 80)),
    "60 percent": several((0, 32, 96, 80)),
    "several": several((5, 5, 20, 20), (50, 40, 80, 60), (90, 0, 92, 80)),
    "one pixel": several((30, 30, 31, 31)),
    "border to border": several((0, 38, 96, 40)),
}


class TestColours:
    """The eraser copies values, so that it works in any space."""

    def test_display_p3_stays_itself(self, engine, p3):
        flat = Picture(Image.new("RGB", (96, 80), (0, 200, 60)), icc_profile=p3)
        edited = engine.edit(flat, mask=box_mask(96, 80), seed=1).pictures[0]
        assert edited.icc_profile == p3
        assert edited.rgb.getcolors() == [(96 * 80, (0, 200, 60))]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_grey_stays_grey(self, engine, dtype, linear_grey):
        values = np.full((80, 96), np.iinfo(dtype).max // 5, dtype)
        values[:, ::3] += 7
        grey = Picture.from_array(values)
        grey = replace(grey, raster=replace(grey.raster, icc_profile=linear_grey))
        edited = engine.edit(grey, mask=box_mask(96, 80), seed=1).pictures[0]
        outside = ~marked(box_mask(96, 80))
        assert edited.own_profile == linear_grey
        assert (edited.raster.values[outside, 0] == values[outside]).all()
        inside = edited.raster.values[~outside].astype(int)
        assert abs(inside - int(values.min())).max() <= (7 if dtype == np.uint8 else 257)

    def test_previews_are_in_srgb(self, engine, p3):
        photo = Picture(noise(96, 80), icc_profile=p3)
        seen = []
        engine.edit(
            photo,
            mask=box_mask(96, 80),
            seed=1,
            window="full",
            on_progress=lambda progress: seen.append((progress.preview(), progress.is_even)),
        )
        outside = ~marked(box_mask(96, 80))
        preview, is_even = seen[-1]
        assert np.array_equal(array(preview)[outside], array(photo.to_srgb())[outside])
        assert not is_even


class TestMasksAndPictures:
    @pytest.mark.parametrize("name", MASKS)
    def test_wherever_the_mask_lies_it_is_filled_and_nothing_else_changes(self, engine, name):
        before, mask = noise(96, 80), MASKS[name]
        after = engine.edit(before, mask=mask, seed=1).images[0]
        kept = ~marked(mask)
        assert np.array_equal(array(after)[kept], array(before)[kept])
        assert not np.array_equal(array(after)[~kept], array(before)[~kept])

    @pytest.mark.parametrize("size", [(1, 60), (60, 1), (2, 2), (1, 2), (3, 50)])
    def test_pictures_of_a_few_pixels(self, engine, size):
        before = Image.new("RGB", size, (40, 90, 160))
        before.putpixel((0, 0), (255, 0, 0))
        after = engine.edit(before, mask=several((0, 0, 1, 1), size=size)).images[0]
        assert (array(after) == (40, 90, 160)).all()

    def test_a_picture_of_one_colour_stays_so(self, engine):
        before = Image.new("RGB", (90, 70), (12, 200, 90))
        after = engine.edit(before, mask=box_mask(90, 70)).images[0]
        assert after.tobytes() == before.tobytes()

    def test_a_mask_of_the_whole_picture_is_refused(self, engine):
        with pytest.raises(InvalidMask, match="covers the whole picture") as caught:
            engine.edit(picture(40, 30), mask=Image.new("L", (40, 30), 255))
        assert caught.value.field == "mask"

    @settings(max_examples=15)
    @given(
        width=st.integers(1, 60),
        height=st.integers(1, 60),
        share=st.floats(0.01, 0.6),
        grow=st.integers(-1, 3),
        feather=st.integers(0, 4),
        seed=st.integers(0, 99),
    )
    def test_nothing_outside_the_grown_mask_changes(
        self, engine, width, height, share, grow, feather, seed
    ):
        from overpaint.core.imaging import masks

        values = np.random.default_rng(seed).random((height, width)) < share
        mask = Image.fromarray(values.astype(np.uint8) * 255)
        before, grown = noise(width, height, seed=seed), marked(masks.grow(mask, grow))
        if not grown.any() or grown.all() or not values.any():
            with pytest.raises(InvalidMask):
                engine.edit(before, mask=mask, grow=grow, feather=feather)
            return
        after = engine.edit(before, mask=mask, grow=grow, feather=feather, seed=seed).images[0]
        assert np.array_equal(array(after)[~grown], array(before)[~grown])

    def test_transparency_and_profile_are_kept(self, engine):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        before, mask = noise(80, 70, "RGBA"), box_mask(80, 70)
        before.info["icc_profile"] = profile
        after = engine.edit(before, mask=mask, seed=1).images[0]
        assert after.mode == "RGBA"
        assert after.info["icc_profile"] == profile
        kept = ~marked(mask)
        assert np.array_equal(array(after)[kept], array(before)[kept])
        assert after.getchannel("A").tobytes() == before.getchannel("A").tobytes()


class TestLargeMasks:
    @pytest.mark.parametrize("name", ["60 percent", "border"])
    def test_a_mask_over_much_of_the_picture_warns_with_its_share(self, engine, name):
        result = engine.edit(noise(96, 80), mask=MASKS[name])
        said = [each for each in result.warnings if "collage" in each]
        assert len(said) == (name == "60 percent")
        assert all("covers 60% of the picture" in each for each in said)


class TestSeeds:
    def test_a_seed_is_a_picture_alone_and_in_company(self, engine):
        before, mask = noise(96, 80), box_mask(96, 80, (36, 28, 60, 52))
        one = engine.edit(before, mask=mask, seed=4).images[0]
        assert engine.edit(before, mask=mask, seed=4).images[0].tobytes() == one.tobytes()
        many = engine.edit(before, mask=mask, seed=3, num_images=3)
        assert many.images[1].tobytes() == one.tobytes()
        assert many.images[0].tobytes() != one.tobytes()


class TestSources:
    """Left half blue noise, right half green noise, a hole across the border."""

    SIZE = (240, 120)
    HOLE = box_mask(240, 120, (100, 40, 140, 80))
    BLUE = box_mask(240, 120, (0, 0, 90, 120))

    @pytest.fixture
    def halves(self):
        values = array(noise(*self.SIZE)) // 4
        values[:, :120, 2] += 190
        values[:, 120:, 1] += 190
        return Image.fromarray(values.astype(np.uint8))

    def colours(self, result):
        return array(result.images[0])[45:75, 105:135].mean((0, 1))

    def test_copies_come_from_where_they_may(self, engine, halves):
        _, green, blue = self.colours(engine.edit(halves, mask=self.HOLE, copy_from=self.BLUE))
        assert blue > green + 60

    def test_copies_do_not_come_from_where_they_must_not(self, engine, halves):
        left = box_mask(*self.SIZE, (0, 0, 120, 120))
        _, green, blue = self.colours(engine.edit(halves, mask=self.HOLE, not_from=left))
        assert green > blue + 60

    def test_a_source_far_from_the_hole_is_seen(self, engine):
        before = Image.new("RGB", (900, 80), (200, 30, 30))
        before.paste(noise(60, 80), (0, 0))
        result = engine.edit(
            before,
            mask=box_mask(900, 80, (850, 30, 880, 60)),
            copy_from=box_mask(900, 80, (0, 0, 60, 80)),
        )
        assert array(result.images[0])[40:50, 860:870].std() > 30

    def test_where_all_around_is_refused_the_rest_of_the_picture_is_seen(self, engine):
        before = Image.new("RGB", (900, 80), (200, 30, 30))
        before.paste((30, 30, 200), (0, 0, 300, 80))
        mask = box_mask(900, 80, (850, 30, 880, 60))
        result = engine.edit(before, mask=mask, not_from=box_mask(900, 80, (300, 0, 900, 80)))
        # The seams are solved away, so the colour of the surroundings remains.
        kept = ~marked(mask)
        assert np.array_equal(array(result.images[0])[kept], array(before)[kept])

    @pytest.mark.parametrize(
        ("given", "field", "said"),
        [
            ({"copy_from": Image.new("L", (240, 120))}, "copy_from", "marks nothing"),
            ({"copy_from": Image.new("L", (9, 9), 255)}, "copy_from", "9x9"),
            ({"not_from": Image.new("L", (9, 9), 255)}, "not_from", "9x9"),
            ({"copy_from": HOLE}, "copy_from", "no pixel outside the mask"),
            ({"not_from": Image.new("L", (240, 120), 255)}, "not_from", "no pixel"),
            ({"copy_from": BLUE, "not_from": BLUE}, "not_from", "no pixel"),
        ],
    )
    def test_what_leaves_nothing_or_does_not_fit_is_named(self, engine, halves, given, field, said):
        with pytest.raises(InvalidMask, match=said) as caught:
            engine.edit(halves, mask=self.HOLE, **given)
        assert caught.value.field == field

    @pytest.mark.parametrize("field", ["copy_from", "not_from"])
    def test_families_that_do_not_copy_refuse_them(self, make_engine, halves, field):
        with pytest.raises(InvalidRequest, match="sd2 cannot use it") as caught:
            make_engine("sd2").edit(halves, "cat", mask=self.HOLE, **{field: self.BLUE})
        assert caught.value.field == field

    def test_the_recipe_holds_them(self, engine, halves):
        plain = engine.edit(halves, mask=self.HOLE).recipe["inputs"]
        assert plain["copy_from"] is None
        assert plain["not_from"] is None
        given = engine.edit(halves, mask=self.HOLE, copy_from=self.BLUE).recipe["inputs"]
        assert len(given["copy_from"]) == 64


LIGHT = Light(dx=0.35, dy=0.4, strength=0.35)
THING = Thing("red", "circle", x=0.5, y=0.45, radius=0.14)
SCENE = Scene(Background("sand", "plain"), LIGHT, (THING,))
SIDE = 160


class TestShadow:
    @pytest.fixture
    def scene(self):
        return Image.fromarray(render(SCENE, SIDE))

    @pytest.fixture
    def mask(self):
        return Image.fromarray((coverage(THING, SIDE) > 0.02).astype(np.uint8) * 255)

    def test_the_shadow_goes_with_the_thing(self, engine, scene, mask):
        empty = render(SCENE.without(0), SIDE).astype(int)
        changed = footprint(THING, LIGHT, SIDE)
        plain, helped = (
            np.abs(array(engine.edit(scene, mask=mask, shadow=on).images[0]) - empty)[changed]
            for on in (False, True)
        )
        assert helped.mean() < plain.mean() / 2

    def test_only_the_grown_mask_changes(self, engine, scene, mask):
        from overpaint.families.erase.exemplar import grow_over_shadow

        result = engine.edit(scene, mask=mask, shadow=True, window="full")
        grown = grow_over_shadow(np.array(scene), marked(mask))
        assert np.array_equal(array(result.images[0])[~grown], array(scene)[~grown])
        assert not result.warnings

    def test_where_there_is_none_the_result_says_so_and_nothing_more_changes(self, engine, mask):
        scene = Scene(Background("sand", "plain"), Light(0.3, 0.4, strength=0.0), (THING,))
        before = Image.fromarray(render(scene, SIDE))
        result = engine.edit(before, mask=mask, shadow=True, seed=1)
        assert any("no soft shadow" in each for each in result.warnings)
        assert np.array_equal(array(result.images[0])[~marked(mask)], array(before)[~marked(mask)])


class TestProgressAndCancel:
    def test_rounds_are_told_one_by_one_with_a_preview(self, engine):
        seen = []

        def told(progress):
            seen.append((progress.step, progress.total, progress.preview().size))

        engine.edit(noise(96, 80), mask=box_mask(96, 80), on_progress=told, window="full")
        assert [step for step, _, _ in seen] == list(range(1, len(seen) + 1))
        assert {(total, size) for _, total, size in seen} == {(len(seen), (96, 80))}
        assert len(seen) > 5

    def test_cancel_takes_effect_between_two_rounds(self, engine):
        asked = iter([False, False, True])
        with pytest.raises(Cancelled):
            engine.edit(noise(96, 80), mask=box_mask(96, 80), cancelled=lambda: next(asked))
        assert next(asked, None) is None

    def test_a_preview_of_any_layer_keeps_what_is_not_masked(self, engine):
        before, mask = noise(97, 83), box_mask(97, 83)
        kept, pictures = ~marked(mask), []
        engine.edit(
            before, mask=mask, window="full", on_progress=lambda p: pictures.append(p.preview())
        )
        assert all(np.array_equal(array(each)[kept], array(before)[kept]) for each in pictures)

    def test_a_deadline_ends_it_between_two_rounds(self, make_engine):
        batcher = Batcher(make_engine("erase"))
        asked = EditRequest(image=Picture.from_pil(noise(900, 900)), mask=box_mask(900, 900))
        with pytest.raises(DeadlineExceeded):
            batcher.submit(asked, seconds=0.5).result(120)
        batcher.close()


def test_a_large_photo_costs_what_its_hole_costs():
    """24 megapixels are 72 MB; the whole picture on the filler's layers would be over 1 GB."""
    code = """
import resource
import numpy as np
from PIL import Image
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.erase import ERASE_FAMILY
engine = Engine(lambda name: Model(ERASE_FAMILY.open(), record={}), "erase")
tile = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
photo = Image.fromarray(np.tile(tile, (10, 15, 1)))
mask = Image.new("L", photo.size)
small, corner = photo.crop((0, 0, 700, 700)), mask.crop((0, 0, 700, 700))
corner.paste(255, (200, 200, 500, 500))
engine.edit(small, mask=corner, seed=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mask.paste(255, (2800, 1800, 3100, 2100))
engine.edit(photo, mask=mask, seed=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    # Picture, mask and result, the result's RGB and the checks' copies: not the layers of 24 MP.
    assert int(ran.stdout) * 1024 < 500e6

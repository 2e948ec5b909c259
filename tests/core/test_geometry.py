"""Windows, canvases and the exact way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from overpaint.core.geometry import Box, Plan, around, full, stretched, window_step

sides = st.one_of(st.integers(1, 40), st.integers(41, 700), st.integers(701, 3000))
sizes = st.tuples(sides, sides)
steps = st.sampled_from([1, 8, 16, 64])
natives = st.sampled_from([128, 512, 1024])


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    left, top = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    return Box(left, top, draw(st.integers(left + 1, size[0])), draw(st.integers(top + 1, size[1])))


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 3)
    pixels = np.random.default_rng(size[0]).integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels).convert(mode)


def check(plan: Plan, size: tuple[int, int], step: int, max_pixels: int) -> None:
    """What holds for every plan that is not stretched."""
    canvas = Box.of_size(plan.canvas)
    assert plan.size == plan.output == size
    assert Box.of_size(size).contains(plan.window)
    assert plan.window.area >= 1
    assert canvas.contains(plan.content)
    assert plan.content.left == plan.content.top == 0
    assert plan.content.area >= 1
    for side, content in zip(plan.canvas, plan.content.size, strict=True):
        assert side % step == 0
        assert 0 <= side - content < step
    assert canvas.area <= max(max_pixels, step * step)
    # Aspect ratio: both sides follow one scale, to half a pixel.
    longer = 0 if plan.window.width >= plan.window.height else 1
    scale = plan.content.size[longer] / plan.window.size[longer]
    for new, old in zip(plan.content.size, plan.window.size, strict=True):
        assert abs(new - old * scale) <= 0.5 or new == 1


def default_max(native: int) -> int:
    return max(int((1.5 * native) ** 2), 768**2)


class TestBox:
    def test_measures(self):
        box = Box(1, 2, 5, 9)
        assert (box.width, box.height, box.size, box.area) == (4, 7, (4, 7), 28)
        assert box.as_tuple() == (1, 2, 5, 9)
        assert Box(5, 5, 1, 9).area == 0

    def test_relations(self):
        box = Box(1, 2, 5, 9)
        assert box.clip(Box(0, 0, 3, 3)) == Box(1, 2, 3, 3)
        assert box.clip(Box(5, 0, 9, 9)).area == 0
        assert box.union(Box(4, 0, 6, 3)) == Box(1, 0, 6, 9)
        assert box.grow(2) == Box(-1, 0, 7, 11)
        assert Box.of_size((5, 9)).contains(box)
        assert not box.contains(Box.of_size((5, 9)))


class TestFull:
    @settings(max_examples=300)
    @given(sizes, steps, natives)
    @example((1, 1), 16, 512)
    @example((3000, 2000), 16, 512)
    @example((3000, 2), 64, 128)
    @example((2, 3000), 8, 1024)
    def test_every_size(self, size, step, native):
        plan = full(size, step=step, native=native)
        assert plan.window == Box.of_size(size)
        check(plan, size, step, default_max(native))

    @settings(max_examples=100)
    @given(sizes, steps, natives, st.integers(1, 2_000_000))
    def test_every_limit(self, size, step, native, max_pixels):
        plan = full(size, step=step, native=native, max_pixels=max_pixels)
        check(plan, size, step, max_pixels)

    @pytest.mark.parametrize("size", [(512, 512), (512, 768), (640, 480), (256, 512)])
    def test_a_picture_that_fits_is_left_alone(self, size):
        plan = full(size, step=8, native=512)
        assert plan == Plan(size, Box.of_size(size), size, Box.of_size(size), size)
        picture = noise(size)
        assert plan.to_canvas(picture).tobytes() == picture.tobytes()

    def test_odd_sizes_are_padded_not_scaled(self):
        plan = full((501, 333), step=16, native=512)
        assert plan.canvas == (512, 336)
        assert plan.content == Box(0, 0, 501, 333)
        assert plan.is_exact

    def test_large_pictures_are_scaled_down_to_what_the_model_takes(self):
        plan = full((3000, 2000), step=16, native=512)
        assert plan.canvas == (928, 624)
        assert not plan.is_exact
        assert full((3000, 2000), step=16, native=1024).canvas == (1872, 1248)

    def test_tiny_pictures_are_scaled_up(self):
        assert full((255, 100), step=16, native=512).content == Box(0, 0, 512, 201)
        assert full((256, 100), step=16, native=512).content == Box(0, 0, 256, 100)
        assert full((1, 1), step=16, native=512).canvas == (512, 512)

    def test_the_limit_holds_for_tiny_pictures_too(self):
        assert full((100, 100), step=16, native=512, max_pixels=256**2).canvas == (256, 256)


class TestAround:
    @settings(max_examples=300)
    @given(st.data(), sizes, steps, natives, st.floats(0, 2))
    def test_every_box(self, data, size, step, native, context):
        box = data.draw(boxes(size))
        plan = around(size, box, step=step, native=native, context=context)
        whole = plan.window == Box.of_size(size)
        check(plan, size, step if whole else window_step(step, native), default_max(native))
        assert plan.window.contains(box)
        assert plan.window == Box.of_size(size) or plan.window.area <= 0.6 * size[0] * size[1]

    @settings(max_examples=200)
    @given(st.data(), sizes, steps, natives)
    def test_the_context_is_there_where_the_picture_is(self, data, size, step, native):
        box = data.draw(boxes(size))
        window = around(size, box, step=step, native=native, full_above=1.0).window
        margin = max(32, round(0.5 * max(box.size)))
        assert window.contains(box.grow(margin).clip(Box.of_size(size)))
        for side, whole in zip(window.size, size, strict=True):
            assert side >= min(native, whole)
            assert side == whole or side % window_step(step, native) == 0

    @settings(max_examples=200)
    @given(st.data(), sizes, steps)
    def test_windows_the_model_can_take_are_exact(self, data, size, step):
        assume(min(size) >= 64)
        box = data.draw(boxes(size))
        plan = around(size, box, step=step, native=128)
        width, height = (-(-side // step) * step for side in plan.window.size)
        if width * height <= 768 * 768:
            assert plan.is_exact

    def test_a_small_edit_of_a_large_picture(self):
        plan = around((3000, 2000), Box(1000, 1000, 1100, 1050), step=16, native=512)
        assert plan.canvas == (512, 512)
        assert plan.window == Box(794, 769, 1306, 1281)
        assert plan.is_exact

    def test_at_the_border_the_window_moves_inside(self):
        plan = around((3000, 2000), Box(2990, 0, 3000, 10), step=16, native=512)
        assert plan.window == Box(2488, 0, 3000, 512)

    def test_most_of_the_picture_is_all_of_it(self):
        plan = around((1000, 1000), Box(100, 100, 800, 600), step=16, native=512)
        assert plan == full((1000, 1000), step=16, native=512)

    def test_a_box_that_reaches_outside_is_clipped(self):
        inside = around((900, 900), Box(880, 880, 900, 900), step=8, native=128)
        assert around((900, 900), Box(880, 880, 2000, 2000), step=8, native=128) == inside

    def test_a_box_outside(self):
        with pytest.raises(ValueError, match="outside the picture of 900x800"):
            around((900, 800), Box(900, 0, 910, 10), step=8, native=128)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Plan, tuple[int, int], Box, dict]:
    """A plan for a model that was trained at several sizes; the picture, the box, the rest."""
    size = draw(sizes)
    box = draw(boxes(size))
    native, smallest = draw(st.sampled_from([(1024, 256), (1024, 512), (512, 512), (128, 128)]))
    asked = {"step": draw(st.sampled_from([8, 16])), "native": native, "smallest": smallest}
    return around(size, box, **asked), size, box, asked


class TestSizesOfAModel:
    """Windows for models that were trained from a smallest size up to their own."""

    @settings(max_examples=400)
    @given(windows())
    def test_the_smallest_window_that_holds_the_box_and_its_context(self, drawn):
        plan, size, box, asked = drawn
        picture, step = Box.of_size(size), window_step(asked["step"], asked["native"])
        margin = max(32, round(0.5 * max(box.size)))
        assert plan.window.contains(box.grow(margin).clip(picture))
        if plan.window == picture:
            return
        for side, whole, length in zip(plan.window.size, size, box.size, strict=True):
            needed = max(length + 2 * margin, asked["smallest"])
            assert side == whole or needed <= side < needed + step

    @settings(max_examples=400)
    @given(windows())
    def test_sizes_are_those_of_the_model(self, drawn):
        plan, size, _, asked = drawn
        whole = plan.window == Box.of_size(size)
        step = asked["step"] if whole else window_step(asked["step"], asked["native"])
        check(plan, size, step, default_max(asked["native"]))
        longest = min(asked["smallest"], asked["native"] // 2)
        if _area(plan.canvas) <= 0.9 * default_max(asked["native"]):
            assert max(plan.canvas) >= longest

    @settings(max_examples=400)
    @given(windows())
    def test_pixels_are_copied_unless_too_few_or_too_many(self, drawn):
        plan, _, _, asked = drawn
        few = max(plan.window.size) < min(asked["smallest"], asked["native"] / 2)
        many = plan.window.area > 0.8 * default_max(asked["native"])
        if not few and not many:
            assert plan.is_exact or _padded(plan, asked) > default_max(asked["native"])
        if few:
            assert max(plan.content.size) >= max(plan.window.size)

    @settings(max_examples=400)
    @given(st.data(), windows())
    def test_a_larger_box_has_no_smaller_window(self, data, drawn):
        plan, size, box, asked = drawn
        more = data.draw(boxes(size)).union(box)
        larger = around(size, more, **asked)
        for side, before in zip(larger.window.size, plan.window.size, strict=True):
            assert side >= before

    def test_a_small_edit_of_a_picture_of_the_models_own_size(self):
        flux = {"step": 16, "native": 1024, "smallest": 256}
        plan = around((1024, 1024), Box(500, 500, 560, 540), **flux)
        assert plan.canvas == plan.window.size == (256, 256)
        plan = around((1024, 1024), Box(256, 256, 580, 580), **flux)
        assert plan.canvas == plan.window.size == (704, 704)
        alone = around((1024, 1024), Box(500, 500, 560, 540), step=16, native=1024)
        assert alone == full((1024, 1024), step=16, native=1024)

    def test_small_pictures_keep_their_pixels(self):
        flux = {"step": 16, "native": 1024, "smallest": 256}
        box = Box(10, 10, 90, 90)
        assert around((300, 280), box, **flux).content == Box(0, 0, 300, 280)
        assert around((128, 100), box, **flux).content == Box(0, 0, 256, 200)
        assert full((300, 280), step=16, native=1024).content == Box(0, 0, 1024, 956)

    def test_few_sizes_in_a_picture(self):
        canvases = {
            around(
                (1024, 1024), Box(0, 0, width, height), step=16, native=1024, smallest=256
            ).canvas
            for width in range(1, 1024, 7)
            for height in range(1, 1024, 7)
        }
        assert len(canvases) <= 100
        assert len({_area(canvas) for canvas in canvases}) <= 52  # FLUX: lengths of the sequence

    def test_a_window_from_border_to_border_is_padded(self):
        plan = around((3000, 700), Box(0, 0, 600, 600), step=16, native=1024, smallest=256)
        assert plan.window == Box(0, 0, 1216, 700)
        assert plan.canvas == (1216, 704)
        assert plan.is_exact


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _padded(plan: Plan, asked: dict) -> int:
    step = window_step(asked["step"], asked["native"])
    return _area(tuple(-(-side // step) * step for side in plan.window.size))


class TestWayThere:
    @settings(max_examples=40, deadline=None)
    @given(st.data(), st.tuples(st.integers(1, 300), st.integers(1, 300)), steps)
    def test_there_and_back_is_exact(self, data, size, step):
        plan = around(size, data.draw(boxes(size)), step=step, native=64, min_context_px=4)
        picture = noise(size)
        back = plan.from_canvas(plan.to_canvas(picture))
        assert back.size == plan.window.size
        if plan.is_exact:
            assert back.tobytes() == picture.crop(plan.window.as_tuple()).tobytes()

    @settings(max_examples=40, deadline=None)
    @given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from(["L", "RGB", "RGBA"]))
    def test_padding_repeats_the_last_pixels(self, size, mode):
        plan = full(size, step=16, native=1)
        assert plan.is_exact
        picture = noise(size, mode)
        canvas = np.asarray(plan.to_canvas(picture))
        pixels = np.asarray(picture)
        growth = [(0, plan.canvas[1] - size[1]), (0, plan.canvas[0] - size[0])]
        growth += [(0, 0)] * (pixels.ndim - 2)
        assert np.array_equal(canvas, np.pad(pixels, growth, mode="edge"))

    def test_padding_with_a_value(self):
        plan = full((10, 10), step=16, native=16)
        canvas = np.asarray(plan.to_canvas(Image.new("L", (10, 10), 255), fill=0))
        assert canvas[:10, :10].min() == 255
        assert canvas[10:].max() == canvas[:, 10:].max() == 0

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2999, 3), (2000, 1999)])
    def test_extreme_sizes_come_back_in_their_own_size(self, size):
        plan = full(size, step=16, native=512)
        canvas = plan.to_canvas(noise(size))
        assert canvas.size == plan.canvas
        assert plan.from_canvas(canvas).size == size

    def test_scaled_pictures_come_back_alike(self):
        x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
        picture = Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8))
        plan = full(picture.size, step=16, native=512)
        assert not plan.is_exact
        back = np.asarray(plan.from_canvas(plan.to_canvas(picture))).astype(int)
        assert np.abs(back - np.asarray(picture)).max() <= 2

    @settings(max_examples=40, deadline=None)
    @given(st.data(), st.sampled_from([(1600, 1200), (97, 61), (700, 501)]))
    def test_a_part_is_what_it_is_in_the_whole(self, data, size):
        plan = full(size, step=16, native=256)
        canvas = noise(plan.canvas).filter(ImageFilter.GaussianBlur(2))
        part = data.draw(boxes(size))
        whole = np.asarray(plan.from_canvas(canvas).crop(part.as_tuple())).astype(int)
        assert np.abs(np.asarray(plan.from_canvas(canvas, part=part)) - whole).max() <= 3

    def test_a_quick_way_to_the_canvas_shows_the_same(self):
        x, y = np.meshgrid(np.linspace(0, 255, 1600), np.linspace(0, 255, 1200))
        picture = Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8))
        plan = full(picture.size, step=16, native=128)
        slow, quick = (
            np.asarray(plan.to_canvas(picture, is_quick=each)).astype(int) for each in (False, True)
        )
        assert np.abs(slow - quick).max() <= 2

    def test_the_filter_can_be_chosen(self):
        picture = Image.new("L", (2, 1))
        picture.putpixel((1, 0), 255)
        plan = full((2, 1), step=4, native=8)
        nearest = plan.to_canvas(picture, resample=Image.Resampling.NEAREST)
        assert set(np.unique(np.asarray(nearest))) == {0, 255}
        assert plan.from_canvas(nearest, resample=Image.Resampling.NEAREST).size == (2, 1)

    def test_paste(self):
        plan = around((300, 200), Box(0, 0, 10, 10), step=8, native=64, min_context_px=0)
        base = noise((300, 200))
        pasted = plan.paste(base, Image.new("RGB", plan.window.size, (1, 2, 3)))
        assert pasted.getpixel((63, 63)) == (1, 2, 3)
        assert pasted.getpixel((64, 63)) == base.getpixel((64, 63))
        assert base.tobytes() == noise((300, 200)).tobytes()

    def test_images_of_the_wrong_size(self):
        plan = around((300, 200), Box(0, 0, 10, 10), step=8, native=64)
        wrong, right = Image.new("RGB", (30, 20)), Image.new("RGB", (300, 200))
        with pytest.raises(ValueError, match=r"30x20 pixels .* the picture has 300x200"):
            plan.to_canvas(wrong)
        with pytest.raises(ValueError, match="canvas"):
            plan.from_canvas(wrong)
        with pytest.raises(ValueError, match="window"):
            plan.paste(right, wrong)


def test_stretched_fills_the_canvas():
    plan = stretched((300, 200), (512, 512))
    assert plan.output == plan.canvas == (512, 512)
    assert plan.window == Box(0, 0, 300, 200)
    picture = noise((300, 200))
    expected = picture.resize((512, 512), Image.Resampling.LANCZOS)
    assert plan.to_canvas(picture).tobytes() == expected.tobytes()
    assert plan.from_canvas(expected).size == (300, 200)
    assert stretched((512, 512), (512, 512)).is_exact

"""What was not to change does not change: not one byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.compositing import composite
from overpaint.core.geometry import around, full, stretched
from overpaint.core.imaging import masks
from overpaint.core.imaging.images import Picture, decode, encode

EXIF = Image.Exif()
EXIF[0x010F] = "A maker"


def noise(size: tuple[int, int], bands: int, seed: int) -> Image.Image:
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def some_mask(size: tuple[int, int], seed: int) -> Image.Image:
    """A few boxes with soft and hard values, at least one pixel."""
    rng = np.random.default_rng(seed)
    values = np.zeros((size[1], size[0]), np.uint8)
    for _ in range(3):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(1, max(2, size[0] // 2)), rng.integers(1, max(2, size[1] // 2))
        values[y : y + h, x : x + w] = rng.choice([1, 100, 255])
    return Image.fromarray(values)


sizes = st.tuples(st.integers(1, 330), st.integers(1, 330))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    transparent=st.booleans(),
    profiled=st.booleans(),
    window=st.booleans(),
    feather=st.integers(0, 20),
    seed=st.integers(0, 2**16),
)
@example((1, 1), True, True, True, 4, 0)
@example((3000, 2), False, True, True, 4, 1)
@example((2, 3000), True, False, False, 4, 2)
@example((3000, 2000), True, False, True, 12, 3)
@example((1999, 1501), False, True, False, 12, 4)
def test_bytes_outside_the_mask_are_the_originals(
    p3, size, transparent, profiled, window, feather, seed
):
    picture = Picture(
        noise(size, 3, seed),
        noise(size, 1, seed) if transparent else None,
        p3 if profiled else None,
        EXIF.tobytes(),
        "PNG",
    )
    mask = some_mask(size, seed)
    plan = (
        around(size, masks.bbox(mask), step=16, native=64, min_context_px=8)
        if window
        else full(size, step=16, native=64)
    )
    edited = noise(plan.canvas, 3, seed + 1)

    result = composite(picture, plan, edited, masks.feather(mask, feather))

    assert result.size == size
    kept = np.asarray(mask) == 0
    before, after = np.asarray(picture.rgb), np.asarray(result.rgb)
    assert np.array_equal(before[kept], after[kept])
    assert result.alpha is picture.alpha
    assert (result.icc_profile, result.exif) == (picture.icc_profile, picture.exif)
    if size[0] * size[1] < 10_000:
        assert decode(encode(result)).sha256 == result.sha256


@pytest.mark.parametrize("profiled", [False, True])
def test_full_alpha_is_the_edit_and_half_is_between(p3, profiled):
    size = (100, 80)
    picture = Picture(noise(size, 3, 1), icc_profile=p3 if profiled else None)
    alpha = Image.new("L", size)
    alpha.paste(255, (0, 0, 50, 80))
    alpha.paste(128, (50, 0, 75, 80))
    plan = full(size, step=16, native=64)
    edited = noise(plan.canvas, 3, 2)
    expected = np.asarray(picture.from_srgb(edited.crop((0, 0, *size)))).astype(int)
    before = np.asarray(picture.rgb).astype(int)
    after = np.asarray(composite(picture, plan, edited, alpha).rgb)
    assert np.array_equal(after[:, :50], expected[:, :50])
    mixed = (expected * 128 + before * 127) / 255
    assert np.abs(after[:, 50:75] - mixed[:, 50:75]).max() <= 1
    assert np.array_equal(after[:, 75:], before[:, 75:])


def test_an_edit_that_changes_nothing_changes_nothing():
    picture = Picture(noise((301, 203), 3, 1))
    plan = full(picture.size, step=16, native=128)
    result = composite(
        picture, plan, plan.to_canvas(picture.to_srgb()), Image.new("L", (301, 203), 255)
    )
    assert result.sha256 == picture.sha256


def test_the_edit_is_seen_in_the_pictures_own_colours(p3):
    picture = Picture(Image.new("RGB", (64, 64)), icc_profile=p3)
    plan = full((64, 64), step=16, native=64)
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    result = composite(picture, plan, red, Image.new("L", (64, 64), 255))
    assert result.rgb.getpixel((9, 9)) == pytest.approx((234, 51, 35), abs=1)
    assert result.to_srgb().getpixel((9, 9)) == pytest.approx((255, 0, 0), abs=1)


def test_outside_the_window_alpha_counts_for_nothing():
    picture = Picture(noise((400, 300), 3, 1))
    box = masks.bbox(masks.from_boxes([(0, 0, 10, 10)], (400, 300)))
    plan = around((400, 300), box, step=16, native=64)
    edited = noise(plan.canvas, 3, 2)
    result = composite(picture, plan, edited, Image.new("L", (400, 300), 255))
    before, after = np.asarray(picture.rgb), np.asarray(result.rgb)
    assert np.array_equal(before[plan.window.bottom :], after[plan.window.bottom :])
    assert np.array_equal(before[:, plan.window.right :], after[:, plan.window.right :])


def test_a_stretched_answer_has_the_size_that_was_asked_for():
    picture = Picture(noise((300, 200), 3, 1), noise((300, 200), 1, 2))
    alpha = Image.new("L", (300, 200))
    alpha.paste(255, (0, 0, 150, 200))
    plan = stretched((300, 200), (128, 256))
    edited = noise((128, 256), 3, 3)
    result = composite(picture, plan, edited, alpha)
    assert result.size == result.alpha.size == (128, 256)
    original = np.asarray(picture.rgb.resize((128, 256), Image.Resampling.LANCZOS))
    after = np.asarray(result.rgb)
    assert np.array_equal(after[:, :60], np.asarray(edited)[:, :60])
    assert np.array_equal(after[:, 68:], original[:, 68:])


def test_a_stretched_answer_of_the_pictures_own_size_is_exact():
    picture = Picture(noise((128, 256), 3, 1))
    alpha = Image.new("L", (128, 256))
    plan = stretched((128, 256), (128, 256))
    assert composite(picture, plan, noise((128, 256), 3, 3), alpha).sha256 == picture.sha256


def test_sizes_that_do_not_belong_together():
    picture = Picture(noise((64, 48), 3, 1))
    plan = full((64, 48), step=16, native=64)
    edited, alpha = noise(plan.canvas, 3, 2), Image.new("L", (64, 48))
    with pytest.raises(ValueError, match="alpha"):
        composite(picture, plan, edited, Image.new("L", (48, 64)))
    with pytest.raises(ValueError, match="canvas"):
        composite(picture, plan, noise((16, 16), 3, 2), alpha)
    for other in (plan, stretched((64, 48), (16, 16))):
        with pytest.raises(ValueError, match=r"picture has the size \(48, 64\)"):
            composite(Picture(noise((48, 64), 3, 1)), other, edited, alpha)


KINDS = ["grey", "grey in its own space", "16 bits", "16-bit grey", "16 bits in Display P3"]


def picture_of(kind, size, transparent, seed, p3, linear_grey) -> Picture:
    """A file of that kind, decoded."""
    dtype = np.uint16 if "16" in kind else np.uint8
    channels = (1 if "grey" in kind else 3) + transparent
    rng = np.random.default_rng(seed)
    values = rng.integers(0, np.iinfo(dtype).max, (size[1], size[0], channels), dtype)
    profile = {"grey in its own space": linear_grey, "16 bits in Display P3": p3}.get(kind)
    plain = Picture.from_array(values)
    own = None if plain.raster is None else replace(plain.raster, icc_profile=profile)
    return decode(encode(replace(plain, raster=own, icc_profile=profile)))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    transparent=st.booleans(),
    in_srgb=st.booleans(),
    feather=st.integers(0, 12),
    seed=st.integers(0, 2**16),
)
def test_every_bit_outside_the_mask_is_the_files(
    p3, linear_grey, kind, size, transparent, in_srgb, feather, seed
):
    picture = picture_of(kind, size, transparent, seed, p3, linear_grey)
    mask = some_mask(size, seed)
    plan = around(size, masks.bbox(mask), step=16, native=64, min_context_px=8)
    alpha = masks.feather(mask, feather)
    edited = noise(plan.canvas, 3, seed + 1)
    written = decode(encode(composite(picture, plan, edited, alpha, in_srgb=in_srgb)))

    before, after = (each.raster.with_alpha(each.alpha) for each in (picture, written))
    assert before.dtype == after.dtype
    outside = np.asarray(alpha) == 0
    assert np.array_equal(before[outside], after[outside])
    assert written.own_profile == picture.own_profile
    if picture.alpha is not None:
        assert np.array_equal(before[..., -1], after[..., -1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_made_is_the_same_colour_there(p3, linear_grey, kind):
    picture = picture_of(kind, (64, 64), False, 1, p3, linear_grey)
    whole = Image.new("L", (64, 64), 255)
    plan = full((64, 64), step=16, native=64)
    colour = (120, 120, 120) if picture.is_grey else (40, 160, 90)
    edited = composite(picture, plan, Image.new("RGB", (64, 64), colour), whole)
    shown = np.asarray(edited.to_srgb()).astype(int)
    assert np.abs(shown - colour).max() <= 1


def test_a_stretched_answer_keeps_depth_and_grey(p3, linear_grey):
    for kind in KINDS:
        picture = picture_of(kind, (40, 30), True, 1, p3, linear_grey)
        plan = stretched((40, 30), (64, 48))
        none = Image.new("L", (40, 30))
        answer = composite(picture, plan, noise((64, 48), 3, 1), none)
        assert answer.size == (64, 48)
        assert answer.raster.values.dtype == picture.raster.values.dtype
        assert answer.is_grey == picture.is_grey

"""The change map finds what an edit changed, its soft shadow too, and nothing else."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from overpaint.core.imaging.changes import change_mask, colour_difference, is_coloured
from tests.conftest import picture


def test_equal_pictures_have_no_change():
    image = picture()
    assert np.asarray(change_mask(image, image)).max() == 0


def test_noise_as_of_an_autoencoder_is_no_change():
    image = picture()
    noise = np.random.default_rng(0).normal(0, 3, (128, 128, 3))
    noisy = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    assert np.asarray(change_mask(image, noisy)).max() == 0


def test_a_changed_object_is_covered_and_the_rest_is_not():
    before = Image.new("RGB", (256, 256), (90, 140, 90))
    after = before.copy()
    after.paste((200, 30, 30), (100, 100, 140, 150))
    mask = np.asarray(change_mask(before, after))
    assert (mask[100:150, 100:140] == 255).all()
    assert mask[:80].max() == 0
    assert mask[180:].max() == 0


def test_a_soft_shadow_that_touches_the_object_is_covered():
    before = Image.new("RGB", (256, 256), (150, 150, 150))
    shadow = Image.new("L", (256, 256), 0)
    shadow.paste(60, (120, 120, 180, 140))
    shadow = shadow.filter(ImageFilter.GaussianBlur(6))
    before = Image.composite(Image.new("RGB", (256, 256)), before, shadow)
    before.paste((30, 30, 220), (100, 90, 130, 135))
    after = Image.new("RGB", (256, 256), (150, 150, 150))
    mask = np.asarray(change_mask(before, after)) > 0
    visible = colour_difference(before, after) > 4
    assert mask[visible].all()


def test_a_global_edit_switches_the_map_off():
    image = picture()
    brighter = image.point(lambda value: min(255, value + 60))
    assert change_mask(image, brighter) is None


def test_a_tint_is_no_colour():
    tinted = Image.new("RGB", (40, 40), (120, 122, 125))
    assert not is_coloured(tinted)
    tinted.paste((200, 40, 40), (0, 0, 10, 10))
    assert is_coloured(tinted)

"""Masks as people draw them, and what each of them marks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from overpaint.core.errors import InvalidMask
from overpaint.core.imaging import images, masks
from overpaint.core.imaging.mask_reading import NOTE

SIZE = (60, 40)
BOX = (20, 10, 39, 29)
MARKED = np.zeros((40, 60), bool)
MARKED[10:30, 20:40] = True


def drawn(mode, ground, paint) -> Image.Image:
    image = Image.new(mode, SIZE, ground)
    ImageDraw.Draw(image).rectangle(BOX, fill=paint)
    return image


def stray() -> Image.Image:
    """Opaque, with one pixel of alpha 254."""
    image = drawn("RGBA", (0, 0, 0, 255), (255, 255, 255, 255))
    image.putpixel((0, 0), (0, 0, 0, 254))
    return image


def erased_photo() -> Image.Image:
    """A picture in which the area was erased, as for OpenAI's image API."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8))
    photo.putalpha(drawn("L", 255, 0))
    return photo


def encoded(image: Image.Image, kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


PLAIN = {
    "white on black": drawn("L", 0, 255),
    "white on black, RGB": drawn("RGB", "black", "white"),
    "a stray alpha value": stray(),
    "an erased photo": erased_photo(),
    "an erased black picture": drawn("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)),
    "a bilevel file": drawn("1", 0, 1),
    "16 bits of 0 and 255": Image.fromarray((MARKED * 255).astype(np.uint16)),
    "16 bits of 0 and 65535": Image.fromarray((MARKED * 65535).astype(np.uint16)),
}
NOTED = {
    "0 and 1": drawn("L", 0, 1),
    "white paint on an empty layer": drawn("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
    "red paint on an empty layer": drawn("RGBA", (0, 0, 0, 0), (255, 0, 0, 255)),
    "black paint on an empty layer": drawn("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)),
    "red paint on black": drawn("RGB", "black", "red"),
    "dark red paint on black": drawn("RGB", "black", (100, 0, 0)),
    "16 bits of 0 and 1": Image.fromarray(MARKED.astype(np.uint16)),
    "black that is 1": drawn("L", 1, 255),
    "a white picture with a hole": drawn("RGBA", (255, 255, 255, 255), (255, 255, 255, 0)),
}


@pytest.mark.parametrize("name", [*PLAIN, *NOTED])
@pytest.mark.parametrize("as_file", [False, True])
def test_what_it_marks(name, as_file):
    image = (PLAIN | NOTED)[name]
    mask = images.decode_mask(encoded(image)) if as_file else masks.from_pil(image)
    assert ((np.asarray(mask) == 255) == MARKED).all()
    assert ((np.asarray(mask) == 0) == ~MARKED).all()
    warnings = masks.check(mask, SIZE)
    assert bool(warnings) is (name in NOTED)
    assert all(each.startswith("mask: ") for each in warnings)


def test_a_jpeg_is_read_without_its_noise():
    mask = images.decode_mask(encoded(drawn("L", 0, 255).resize((600, 400)), "JPEG", quality=50))
    assert NOTE not in mask.info
    assert ((np.asarray(mask) % 255 == 0).mean()) > 0.97


AMBIGUOUS = {
    "colour on white": drawn("RGB", "white", "red"),
    "black and white, and a hole": drawn("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
}
AMBIGUOUS["black and white, and a hole"].paste((0, 0, 0, 0), (0, 0, 10, 10))


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_either_is_refused_with_the_way_out(name):
    with pytest.raises(InvalidMask, match=r"paint|alpha"):
        masks.from_pil(AMBIGUOUS[name])


@pytest.mark.parametrize(
    ("image", "reads", "marks"),
    [
        (AMBIGUOUS["colour on white"], "paint", MARKED),
        (drawn("RGB", "white", "black"), "paint", MARKED),
        (drawn("L", 255, 0), "paint", MARKED),
        (drawn("RGB", "black", (90, 0, 0)), "paint", MARKED),
        (AMBIGUOUS["colour on white"], "white", ~MARKED),
        (AMBIGUOUS["black and white, and a hole"], "white", MARKED),
        (erased_photo(), "paint", ~MARKED),
        (NOTED["white paint on an empty layer"], "alpha", ~MARKED),
    ],
)
def test_a_reading_that_was_asked_for_wins(image, reads, marks):
    mask = np.asarray(masks.from_pil(image, reads))
    assert ((mask > 128) == marks).all()


def test_transparency_that_is_asked_for_must_be_there():
    with pytest.raises(InvalidMask, match="no transparency"):
        masks.from_pil(drawn("L", 0, 255), "alpha")


@pytest.mark.parametrize(
    ("ground", "paint", "says"),
    [(0, 128, "never reaches white"), (100, 255, "never reaches black")],
)
def test_a_mask_that_never_reaches_an_end_is_said(ground, paint, says):
    mask = masks.from_pil(drawn("L", ground, paint))
    assert any(says in each for each in masks.check(mask, SIZE))
    assert mask.getextrema() == (ground, paint)


class TestOpenAI:
    """'openai': transparency, where there is some; else what the mask evidently is."""

    @pytest.mark.parametrize("name", ["an erased photo", "white paint on an empty layer"])
    def test_transparent_is_repainted(self, name):
        image = {**PLAIN, **NOTED}[name]
        mask = np.asarray(images.decode_mask(encoded(image), reads="openai"))
        assert np.array_equal(mask, 255 - np.asarray(image.getchannel("A")))

    @pytest.mark.parametrize("name", ["white on black", "a stray alpha value"])
    def test_a_mask_without_transparency(self, name):
        mask = images.decode_mask(encoded(PLAIN[name]), reads="openai")
        assert np.array_equal(np.asarray(mask) == 255, MARKED)

    def test_all_transparent(self):
        mask = images.decode_mask(encoded(Image.new("RGBA", SIZE)), reads="openai")
        assert mask.getextrema() == (255, 255)

"""AVIF, HEIC and TIFF: read behind the same limits as the others."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging import images
from overpaint.core.imaging.images import ImageLimits, Picture, decode

HEIC = Path(__file__).parent / "heic"
"""Four quarters of one colour each, 64 x 48, written with pillow-heif."""

QUARTERS = [(200, 40, 40), (40, 180, 60), (30, 60, 200), (230, 220, 40)]


def file_of(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def corners(image: Image.Image):
    width, height = image.size
    places = [(3, 3), (width - 4, 3), (3, height - 4), (width - 4, height - 4)]
    return [image.getpixel(place) for place in places]


def near(one, other) -> bool:
    return bool(np.abs(np.array(one) - np.array(other)).max() <= 3)


class TestHeic:
    def test_pixels(self):
        picture = Picture.open(HEIC / "plain.heic")
        assert (picture.size, picture.format) == ((64, 48), "HEIF")
        assert corners(picture.rgb) == QUARTERS

    def test_orientation_profile_and_exif(self, p3):
        picture = Picture.open(HEIC / "turned_p3.heic")
        assert picture.size == (48, 64)
        first, second, third, fourth = QUARTERS
        assert near(corners(picture.rgb), [third, first, fourth, second])
        assert near(picture.to_srgb().getpixel((44, 60)), (0, 182, 31))
        exif = Image.Exif()
        exif.load(picture.exif)
        assert (exif[0x010E], exif[0x0112]) == ("a quarter", 1)

    def test_transparency(self):
        alpha = Picture.open(HEIC / "alpha.heic").alpha
        assert (alpha.getpixel((5, 5)), alpha.getpixel((5, 40))) == (0, 255)

    def test_of_several_pictures_the_primary_one(self):
        assert near(corners(Picture.open(HEIC / "several.heic").rgb), QUARTERS)

    def test_a_mask(self):
        mask = images.decode_mask(HEIC / "alpha.heic")
        assert (mask.getpixel((5, 5)), mask.getpixel((5, 40))) == (255, 0)


class TestAvif:
    def test_pixels_and_metadata(self, p3):
        exif = Image.Exif()
        exif[0x010E], exif[0x0112] = "a quarter", 8
        image = Image.fromarray(
            np.kron(np.array(QUARTERS).reshape(2, 2, 3), np.ones((24, 32, 1))).astype(np.uint8)
        )
        data = file_of(image, "AVIF", quality=100, subsampling="4:4:4", exif=exif, icc_profile=p3)
        picture = decode(data)
        assert (picture.size, picture.format, picture.icc_profile) == ((48, 64), "AVIF", p3)
        first, second, third, fourth = QUARTERS
        assert near(corners(picture.rgb), [second, fourth, first, third])

    def test_animations(self):
        frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in (1, 2)]
        data = file_of(frames[0], "AVIF", save_all=True, append_images=frames[1:])
        with pytest.raises(InvalidImage, match="animation of 2 frames"):
            decode(data)


class TestTiff:
    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
    def test_what_pillow_writes(self, mode, compression):
        if mode == "RGBA" and compression == "jpeg":
            pytest.skip("no such files")
        image = Image.fromarray(noise(40, 56, len(mode)).squeeze(), mode=mode)
        picture = decode(file_of(image, "TIFF", compression=compression))
        assert (picture.size, picture.format) == ((56, 40), "TIFF")
        if compression != "jpeg" and mode != "CMYK":
            assert picture.to_pil().tobytes() == image.tobytes()

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_16_bits(self, channels, compression):
        values = noise(20, 30, channels, dtype=np.uint16)
        file = io.BytesIO()
        kind = "minisblack" if channels == 1 else "rgb"
        extra = ["unassalpha"] if channels == 4 else None
        tifffile.imwrite(
            file,
            values.squeeze(),
            photometric=kind,
            extrasamples=extra,
            compression=compression,
        )
        picture = decode(file.getvalue())
        assert picture.raster.is_deep
        assert (picture.raster.with_alpha(None) == values).all()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_8_and_16_bits_are_turned_alike(self, orientation):
        small = noise(6, 9, 3)
        tags = [(274, "H", 1, orientation, True)]
        turned = []
        for values in (small, small.astype(np.uint16) * 257):
            file = io.BytesIO()
            tifffile.imwrite(file, values, photometric="rgb", extratags=tags)
            turned.append(decode(file.getvalue()))
        assert turned[0].rgb.tobytes() == turned[1].rgb.tobytes()
        assert turned[0].size == ((9, 6) if orientation < 5 else (6, 9))

    def test_what_is_about_the_photo_is_kept(self, p3):
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "A maker", 6
        exif[0x8769] = {0x9003: "2024:01:01 00:00:00"}
        exif.load(exif.tobytes())
        image = Image.fromarray(noise(6, 9, 3))
        data = file_of(image, "TIFF", exif=exif, icc_profile=p3, dpi=(300, 150))
        picture = decode(data)
        assert picture.size == (6, 9)
        assert picture.icc_profile == p3
        kept = Image.Exif()
        kept.load(picture.exif)
        assert (kept[0x010F], kept.get(0x0112)) == ("A maker", None)
        assert kept.get_ifd(0x8769)[0x9003] == "2024:01:01 00:00:00"
        assert 273 not in kept  # where the strips of the file lie
        assert decode(images.encode(picture)).exif is not None

    def test_pages(self):
        first, second = (Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in (1, 2))
        with pytest.raises(InvalidImage, match="several pages"):
            decode(file_of(first, "TIFF", save_all=True, append_images=[second]))
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(noise(8, 8, 3, seed=1), photometric="rgb")
            writer.write(noise(2, 2, 3), photometric="rgb", subfiletype=1)  # a thumbnail
        assert decode(file.getvalue()).rgb.tobytes() == first.tobytes()


def sample(name: str) -> bytes:
    if name == "HEIC":
        return (HEIC / "turned_p3.heic").read_bytes()
    return file_of(Image.fromarray(noise(13, 11, 3)), name)


@pytest.mark.parametrize("name", ["AVIF", "HEIC", "TIFF"])
class TestLimits:
    def test_pixels_and_bytes(self, name):
        data = sample(name)
        for limits in (ImageLimits(max_pixels=100), ImageLimits(max_bytes=len(data) - 1)):
            with pytest.raises(InvalidImage, match="more than the limit"):
                decode(data, limits=limits)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_flipped_bytes_never_raise_anything_else(self, name, data):
        damaged = bytearray(sample(name))
        for _ in range(data.draw(st.integers(1, 4))):
            where = data.draw(st.integers(0, len(damaged) - 1))
            damaged[where] = data.draw(st.integers(0, 255))
        with suppress(InvalidImage):
            assert decode(bytes(damaged), limits=ImageLimits(max_pixels=10_000)).rgb.mode == "RGB"

    def test_half_a_file(self, name):
        data = sample(name)
        with pytest.raises(InvalidImage, match="damaged"):
            decode(data[: len(data) // 2])

"""Decoding within limits, colour, metadata, encoding."""

from __future__ import annotations

import io
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from overpaint.core.errors import InvalidImage, InvalidMask, InvalidRequest
from overpaint.core.imaging.images import ImageLimits, Picture, decode, decode_mask, encode

FORMATS = ("PNG", "JPEG", "WEBP")


def noise(width: int, height: int, bands: int, seed: int = 0) -> Image.Image:
    shape = (height, width) if bands == 1 else (height, width, bands)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def file_of(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def exif_with(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A maker"
    return exif.tobytes()


def same(one: Image.Image | None, other: Image.Image | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


class TestRoundTrip:
    @settings(max_examples=40, deadline=None)
    @given(sizes, st.sampled_from([3, 4]), st.sampled_from(["PNG", "WEBP"]), st.integers(0, 9))
    def test_every_pixel_survives_lossless_formats(self, size, bands, name, seed):
        picture = Picture.from_pil(noise(*size, bands, seed))
        again = decode(encode(picture, name))
        assert same(again.rgb, picture.rgb)
        assert same(again.alpha, picture.alpha)
        assert again.format == name
        assert again.sha256 == picture.sha256

    @pytest.mark.parametrize("name", FORMATS)
    def test_metadata_survive(self, name, p3):
        picture = Picture(noise(9, 7, 3), icc_profile=p3, exif=exif_with(1))
        again = decode(encode(picture, name))
        assert again.icc_profile == p3
        assert again.exif == picture.exif
        assert again.size == (9, 7)

    @pytest.mark.parametrize("name", FORMATS)
    def test_no_metadata_are_made_up(self, name):
        again = decode(encode(Picture(noise(9, 7, 3)), name))
        assert again.icc_profile is None
        assert again.exif is None
        assert again.alpha is None

    def test_lossy_webp_is_smaller(self):
        picture = Picture(noise(64, 64, 3))
        lossy = encode(picture, "WEBP", lossless=False, quality=20)
        assert len(lossy) < len(encode(picture, "WEBP"))

    def test_jpeg_keeps_full_colour_resolution(self):
        stripes = np.zeros((16, 16, 3), np.uint8)
        stripes[:, ::2] = (255, 0, 0)
        again = decode(encode(Picture.from_array(stripes), "JPEG", quality=100))
        assert np.abs(np.asarray(again.rgb).astype(int) - stripes).max() < 12

    def test_pil_and_back(self, p3):
        picture = Picture(noise(9, 7, 3), noise(9, 7, 1), p3, exif_with(1))
        image = picture.to_pil()
        assert image.mode == "RGBA"
        again = Picture.from_pil(image)
        assert again.sha256 == picture.sha256
        assert (again.icc_profile, again.exif) == (p3, picture.exif)


class TestSources:
    def test_path_bytes_and_open_file_are_the_same(self, tmp_path):
        data = file_of(noise(5, 4, 3))
        path = tmp_path / "picture.png"
        path.write_bytes(data)
        pictures = [decode(data), decode(path), decode(str(path)), decode(io.BytesIO(data))]
        assert len({picture.sha256 for picture in pictures}) == 1

    @pytest.mark.parametrize("name", ["missing.png", ".", "nul\0byte.png", "file/under.png"])
    def test_a_path_that_is_no_file(self, tmp_path, name):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InvalidImage, match="control: ") as caught:
            decode(f"{tmp_path}/{name}", field="control")
        assert caught.value.field == "control"

    @pytest.mark.parametrize("name", ["GIF", "BMP", "ICO", "PPM"])
    def test_other_formats_are_not_tried(self, name):
        with pytest.raises(InvalidImage, match="not a PNG, JPEG, WebP, AVIF, HEIC or TIFF"):
            decode(file_of(noise(5, 4, 3), name))

    def test_an_empty_file_is_called_empty(self):
        with pytest.raises(InvalidImage, match="The file is empty"):
            decode(b"")

    @pytest.mark.parametrize("data", [b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"<svg/>"])
    def test_not_a_picture(self, data):
        with pytest.raises(InvalidImage, match="not a PNG, JPEG, WebP, AVIF, HEIC or TIFF"):
            decode(data)


class TestLimits:
    def test_a_huge_header_costs_nothing(self, huge_png):
        data = huge_png(60_000, 60_000)
        tracemalloc.start()
        with pytest.raises(InvalidImage, match=r"60000x60000 .* limit of 100,000,000"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()

    def test_a_huge_webp_header(self):
        data = bytearray(file_of(noise(4, 4, 3), "WEBP", lossless=True, exif=exif_with(1)))
        data[24:30] = (16382).to_bytes(3, "little") * 2
        with pytest.raises(InvalidImage, match="too large"):
            decode(bytes(data))

    def test_between_pillows_warning_and_our_limit(self, huge_png):
        with pytest.raises(InvalidImage, match=r"incomplete .*truncated"):
            decode(huge_png(9_500, 9_500))

    def test_pixels(self):
        data = file_of(noise(10, 10, 3))
        assert decode(data, limits=ImageLimits(max_pixels=100)).size == (10, 10)
        with pytest.raises(InvalidImage, match="10x10"):
            decode(data, limits=ImageLimits(max_pixels=99))

    def test_bytes(self, tmp_path):
        data = file_of(noise(10, 10, 3))
        path = tmp_path / "picture.png"
        path.write_bytes(data)
        limits = ImageLimits(max_bytes=len(data) - 1)
        for source in (data, path, io.BytesIO(data)):
            with pytest.raises(InvalidImage, match="more than the limit"):
                decode(source, limits=limits)
        assert decode(data, limits=ImageLimits(max_bytes=len(data)))

    @pytest.mark.parametrize("name", ["PNG", "WEBP"])
    def test_animations(self, name):
        first, second = noise(8, 8, 3, 1), noise(8, 8, 3, 2)
        data = file_of(first, name, save_all=True, append_images=[second], lossless=True)
        with pytest.raises(InvalidImage, match="animation of 2 frames"):
            decode(data)

    def test_pictures_of_several_views_are_no_animations(self):
        data = file_of(noise(16, 16, 3), "MPO", save_all=True, append_images=[noise(16, 16, 3)])
        assert decode(data).format == "JPEG"


class TestDamage:
    @pytest.mark.parametrize("name", FORMATS)
    def test_a_truncated_file_is_refused_or_whole(self, name):
        data = file_of(noise(13, 11, 3), name)
        whole = decode(data)
        refused = 0
        for length in range(16, len(data)):
            try:
                assert decode(data[:length]).sha256 == whole.sha256
            except InvalidImage:
                refused += 1
        assert refused > 0.9 * (len(data) - 16)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(FORMATS), st.data())
    def test_flipped_bytes_never_raise_anything_else(self, name, data):
        whole = file_of(noise(13, 11, 3), name, exif=exif_with(6))
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            where = data.draw(st.integers(0, len(whole) - 1))
            damaged[where] = data.draw(st.integers(0, 255))
        limits = ImageLimits(max_pixels=10_000)
        with suppress(InvalidImage):
            assert decode(bytes(damaged), limits=limits).rgb.mode == "RGB"

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF....WEBP"]), st.binary())
    def test_noise_behind_a_signature(self, signature, rest):
        with pytest.raises(InvalidImage):
            decode(signature + rest)


class TestDepth:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("interlaced", [False, True])
    def test_16_bit_is_scaled_and_rounded(self, png16, channels, interlaced):
        values = np.random.default_rng(3).integers(0, 65536, (11, 13, channels), np.uint16)
        values[0, :4] = np.array([0, 128, 129, 65535])[:, np.newaxis]
        picture = decode(png16(values, interlaced=interlaced))
        expected = np.rint(values / 257).astype(np.uint8)
        colours = expected[..., :3] if channels > 2 else expected[..., :1]
        assert np.array_equal(np.asarray(picture.rgb), np.broadcast_to(colours, (11, 13, 3)))
        assert (picture.alpha is not None) == (channels in (2, 4))
        if picture.alpha is not None:
            assert np.array_equal(np.asarray(picture.alpha), expected[..., -1])

    def test_16_bit_keeps_metadata_that_follow_the_pixels(self, png16):
        block = exif_with(6).removeprefix(b"Exif\0\0")
        values = np.zeros((4, 7, 3), np.uint16)
        picture = decode(png16(values, late={b"eXIf": block}))
        assert picture.size == (4, 7)
        assert picture.exif is not None

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bit_with_one_transparent_colour(self, png16, channels):
        values = np.full((2, 3, channels), 30_000, np.uint16)
        values[1, 2] = 30_001  # the same 8-bit value, yet not transparent
        colour = values[0, 0].astype(">u2").tobytes()
        picture = decode(png16(values, chunks={b"tRNS": colour}))
        assert np.asarray(picture.alpha).tolist() == [[0, 0, 0], [0, 0, 255]]

    def test_arrays_of_all_types(self):
        grey = np.array([[0, 1], [128, 255]], np.uint8)
        expected = Picture.from_array(grey)
        assert np.asarray(expected.rgb)[..., 1].tolist() == grey.tolist()
        for array in (grey / 255, (grey / 255).astype(np.float32)):
            assert Picture.from_array(array).sha256 == expected.sha256
        assert same(Picture.from_array(grey.astype(np.uint16) * 257).rgb, expected.rgb)
        assert Picture.from_array(grey[..., np.newaxis]).sha256 == expected.sha256
        assert Picture.from_array(np.array([[True, False]])).rgb.getpixel((0, 0)) == (255,) * 3

    def test_arrays_with_alpha(self):
        array = np.random.default_rng(0).integers(0, 256, (4, 5, 4), np.uint8)
        picture = Picture.from_array(array)
        assert np.array_equal(np.asarray(picture.to_pil()), array)
        assert Picture.from_array(array[..., :2]).alpha is not None

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((0, 4, 3), np.uint8), "no pixels"),
            (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
            (np.zeros(4, np.uint8), r"shape \(4,\)"),
            (np.full((2, 2), np.nan), "NaN"),
            (np.full((2, 2), 255.0), "255.0"),
            (np.zeros((2, 2), np.int64), "int64"),
        ],
    )
    def test_arrays_that_are_no_pictures(self, array, message):
        with pytest.raises(InvalidImage, match=message):
            Picture.from_array(array)


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "value", "rgb", "alpha"),
        [
            ("1", 1, (255, 255, 255), None),
            ("L", 77, (77, 77, 77), None),
            ("LA", (77, 9), (77, 77, 77), 9),
            ("La", (40, 128), (80, 80, 80), 128),
            ("RGB", (1, 2, 3), (1, 2, 3), None),
            ("RGBX", (1, 2, 3, 4), (1, 2, 3), None),
            ("RGBA", (1, 2, 3, 0), (1, 2, 3), 0),
            ("RGBa", (40, 20, 10, 128), (80, 40, 20), 128),
            ("CMYK", (255, 0, 0, 0), (0, 255, 255), None),
            ("YCbCr", (77, 128, 128), (77, 77, 77), None),
            ("HSV", (0, 0, 77), (77, 77, 77), None),
            ("LAB", (128, 128, 128), (119, 119, 119), None),
            ("I", 65535, (255, 255, 255), None),
            ("I", 70_000, (255, 255, 255), None),
            ("I;16", 257, (1, 1, 1), None),
            ("I;16B", 32_896, (128, 128, 128), None),
            ("F", 0.5, (128, 128, 128), None),
            ("F", 7.0, (255, 255, 255), None),
        ],
    )
    def test_any_mode(self, mode, value, rgb, alpha):
        picture = Picture.from_pil(Image.new(mode, (3, 2), value))
        assert picture.rgb.mode == "RGB"
        assert picture.rgb.getpixel((2, 1)) == pytest.approx(rgb, abs=1)
        assert (None if picture.alpha is None else picture.alpha.getpixel((2, 1))) == alpha

    @pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"])
    def test_palettes(self, transparency):
        image = Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.putdata([0, 1, 2])
        plain = decode(file_of(image))
        assert np.asarray(plain.rgb)[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
        assert plain.alpha is None
        seen = decode(file_of(image, transparency=transparency))
        assert same(seen.rgb, plain.rgb)
        assert seen.alpha.getpixel((1, 0)) == 0

    @pytest.mark.parametrize(("bands", "value"), [(1, 5), (3, (5, 6, 7))])
    def test_one_transparent_colour(self, bands, value):
        image = noise(4, 4, bands)
        image.putpixel((1, 1), value)
        picture = decode(file_of(image, transparency=value))
        assert picture.alpha.getpixel((1, 1)) == 0
        assert picture.rgb.getpixel((1, 1)) == ((value,) * 3 if bands == 1 else value)

    def test_an_image_without_pixels(self):
        with pytest.raises(InvalidImage, match="0x3"):
            Picture.from_pil(Image.new("RGB", (0, 3)))

    def test_a_file_that_breaks_when_it_is_loaded(self):
        data = file_of(noise(30, 30, 3))
        with pytest.raises(InvalidImage, match="cannot be read"):
            Picture.from_pil(Image.open(io.BytesIO(data[: len(data) // 2])))

    def test_not_a_number(self):
        with pytest.raises(InvalidImage, match="NaN"):
            Picture.from_pil(Image.new("F", (2, 2), float("nan")))


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["PNG", "WEBP"])
    def test_pixels_and_mask_are_turned_alike(self, orientation, name):
        stored = noise(5, 3, 4, seed=orientation)
        back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # PIL's transpositions by number
        upright = stored.transpose(back[orientation]) if orientation > 1 else stored
        data = file_of(stored, name, lossless=True, exact=True, exif=exif_with(orientation))
        picture = decode(data)
        assert same(picture.to_pil(), upright)
        assert same(Picture.from_pil(Image.open(io.BytesIO(data))).to_pil(), upright)
        expected = upright.getchannel("A").point(lambda value: 255 - value)
        assert same(decode_mask(data), expected)
        kept = Image.Exif()
        kept.load(picture.exif)
        assert kept[0x0112] == 1
        assert kept[0x010F] == "A maker"

    def test_a_turned_jpeg_stays_upright_when_saved_again(self):
        stored = Image.new("RGB", (32, 16))
        stored.paste((255, 255, 255), (0, 0, 16, 16))  # left half white; upright: top half
        picture = decode(file_of(stored, "JPEG", exif=exif_with(6)))
        again = decode(encode(picture, "JPEG"))
        for each in (picture, again):
            assert each.size == (16, 32)
            assert min(each.rgb.getpixel((8, 4))) > 240
            assert max(each.rgb.getpixel((8, 28))) < 16

    def test_damaged_exif_goes_and_the_picture_stays(self):
        image = noise(5, 3, 3)
        for name in FORMATS:
            picture = decode(file_of(image, name, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
            assert picture.exif is None
            assert picture.size == (5, 3)

    def test_exif_as_imagemagick_wrote_it_into_png(self):
        block = exif_with(8)
        for text, size in ((block.hex(), (3, 5)), ("no hex", (5, 3))):
            info = PngImagePlugin.PngInfo()
            info.add_text("Raw profile type exif", f"\nexif\n {len(block)}\n{text}\n")
            assert decode(file_of(noise(5, 3, 3), pnginfo=info)).size == size


class TestColour:
    def test_display_p3_to_srgb_and_back(self, p3):
        picture = Picture(Image.new("RGB", (4, 4), (234, 51, 35)), icc_profile=p3)
        assert picture.to_srgb().getpixel((0, 0)) == pytest.approx((255, 0, 0), abs=1)
        assert picture.to_srgb() is picture.to_srgb()
        back = picture.from_srgb(Image.new("RGB", (2, 2), (255, 0, 0)))
        assert back.getpixel((0, 0)) == pytest.approx((234, 51, 35), abs=1)

    def test_what_both_spaces_hold_comes_back(self, p3):
        srgb = noise(64, 64, 3)
        picture = Picture(noise(1, 1, 3), icc_profile=p3)
        there = Picture(picture.from_srgb(srgb), icc_profile=p3)
        difference = np.asarray(there.to_srgb()).astype(int) - np.asarray(srgb)
        assert np.abs(difference).max() <= 8  # saturated shadows; the rest is within 1 or 2
        assert np.abs(difference).mean() < 0.5

    def test_no_profile_means_srgb(self):
        picture = Picture(noise(4, 4, 3))
        assert picture.to_srgb() is picture.rgb  # no second copy of a large picture
        assert same(picture.from_srgb(picture.rgb), picture.rgb)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=1, max_size=300))
    def test_a_broken_profile_is_kept_and_means_srgb(self, profile):
        picture = decode(encode(Picture(noise(4, 4, 3), icc_profile=profile)))
        assert picture.icc_profile == profile
        assert same(picture.to_srgb(), picture.rgb)
        assert same(picture.from_srgb(picture.rgb), picture.rgb)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_a_damaged_profile_is_not_fatal(self, p3, data):
        damaged = bytearray(p3[: data.draw(st.integers(100, len(p3)))])
        for _ in range(data.draw(st.integers(0, 5))):
            damaged[data.draw(st.integers(0, min(len(damaged), 400) - 1))] = data.draw(
                st.integers(0, 255)
            )
        picture = Picture(noise(4, 4, 3), icc_profile=bytes(damaged))
        assert picture.to_srgb().size == picture.from_srgb(picture.rgb).size == (4, 4)

    def test_profiles_of_other_kinds_mean_srgb(self, scanner, p3):
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        for profile in (lab, scanner, p3.ljust(5_000_000, b"\0")):
            picture = Picture(noise(4, 4, 3), icc_profile=profile)
            assert same(picture.to_srgb(), picture.rgb)
            assert same(picture.from_srgb(picture.rgb), picture.rgb)

    def test_grey_through_its_profile(self, linear_grey):
        picture = decode(file_of(Image.new("L", (4, 4), 64), icc_profile=linear_grey))
        assert picture.rgb.getpixel((0, 0)) == pytest.approx((137, 137, 137), abs=1)
        assert picture.icc_profile is None

    def test_grey_in_an_rgb_profile_keeps_it(self, p3):
        picture = decode(file_of(Image.new("L", (4, 4), 64), icc_profile=p3))
        assert picture.rgb.getpixel((0, 0)) == (64, 64, 64)
        assert picture.icc_profile == p3

    def test_cmyk_through_its_profile(self, cmyk):
        image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
        picture = decode(file_of(image, "JPEG", icc_profile=cmyk))
        assert picture.rgb.getpixel((8, 8)) == pytest.approx((119, 119, 119), abs=3)
        assert picture.icc_profile is None

    @pytest.mark.parametrize("profile", [None, b"broken", "p3"])
    def test_cmyk_without_a_profile_of_its_own(self, profile, p3):
        image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
        profile = p3 if profile == "p3" else profile
        picture = decode(file_of(image, "JPEG", quality=100, icc_profile=profile))
        assert picture.rgb.getpixel((8, 8)) == pytest.approx((0, 255, 255), abs=4)
        assert picture.icc_profile is None


class TestPicture:
    def test_with_rgb_keeps_everything_else(self, p3):
        picture = Picture(noise(9, 7, 3), noise(9, 7, 1), p3, exif_with(1), "PNG")
        same_size = picture.with_rgb(noise(9, 7, 3, seed=2))
        assert same_size.alpha is picture.alpha
        assert (same_size.icc_profile, same_size.exif, same_size.format) == (
            p3,
            picture.exif,
            "PNG",
        )
        assert same_size.sha256 != picture.sha256
        assert picture.with_rgb(noise(18, 14, 3)).alpha.size == (18, 14)

    def test_the_hash_tells_pictures_apart(self):
        flat = Picture(Image.new("RGB", (4, 2)))
        assert flat.sha256 != Picture(Image.new("RGB", (2, 4))).sha256
        assert flat.sha256 != Picture(Image.new("RGB", (4, 2)), Image.new("L", (4, 2))).sha256
        assert flat.sha256 == Picture(Image.new("RGB", (4, 2)), exif=exif_with(1)).sha256

    def test_changing_the_source_changes_nothing(self):
        source = noise(4, 4, 4)
        source.info["comment"] = "of the file"
        picture = Picture.from_pil(source)
        before = picture.sha256
        source.paste((0, 0, 0, 0), (0, 0, 4, 4))
        assert Picture(picture.rgb, picture.alpha).sha256 == before
        assert not picture.rgb.info

    def test_changing_a_copy_changes_nothing(self):
        picture = Picture(noise(4, 4, 3))
        before = picture.rgb.tobytes()
        picture.to_pil().paste((0, 0, 0), (0, 0, 4, 4))
        assert picture.rgb.tobytes() == before


class TestEncodeRefuses:
    @pytest.mark.parametrize("quality", [0, 101, -1])
    def test_quality(self, quality):
        with pytest.raises(InvalidRequest, match=f"quality: .*{quality}"):
            encode(Picture(noise(4, 4, 3)), "JPEG", quality=quality)

    def test_an_unknown_format(self):
        with pytest.raises(InvalidRequest, match=r"format: .*'GIF'"):
            encode(Picture(noise(4, 4, 3)), "GIF")

    def test_transparency_in_jpeg(self):
        opaque = Picture(noise(4, 4, 3), Image.new("L", (4, 4), 255))
        assert decode(encode(opaque, "JPEG")).alpha is None
        with pytest.raises(InvalidRequest, match="transparency, which JPEG cannot hold"):
            encode(Picture(noise(4, 4, 3), Image.new("L", (4, 4), 254)), "JPEG")

    @pytest.mark.parametrize(("name", "longest"), [("JPEG", 65_535), ("WEBP", 16_383)])
    def test_a_side_that_the_format_cannot_hold(self, name, longest):
        picture = Picture(Image.new("RGB", (longest + 1, 1)))
        with pytest.raises(InvalidRequest, match=str(longest)):
            encode(picture, name)
        assert decode(encode(picture, "PNG")).size == picture.size

    def test_exif_longer_than_jpeg_can_hold(self):
        picture = Picture(noise(4, 4, 3), exif=exif_with(1) + bytes(70_000))
        with pytest.raises(InvalidRequest, match=r"EXIF has 70,\d+ bytes"):
            encode(picture, "JPEG")
        assert decode(encode(picture, "WEBP")).exif == picture.exif


class TestDecodeMask:
    def test_brightness(self):
        mask = noise(6, 5, 1)
        assert same(decode_mask(file_of(mask)), mask)
        assert same(decode_mask(file_of(mask.convert("RGB"))), mask)

    def test_black_and_white(self):
        mask = Image.new("1", (4, 4))
        mask.putpixel((1, 2), 1)
        assert decode_mask(file_of(mask)).getpixel((1, 2)) == 255

    def test_16_bit(self, png16):
        values = np.array([[[0], [32_896], [65_535]]], np.uint16)
        assert np.asarray(decode_mask(png16(values))).tolist() == [[0, 128, 255]]

    def test_transparency_that_varies_is_the_mask(self):
        image = noise(4, 4, 4)
        expected = image.getchannel("A").point(lambda value: 255 - value)
        assert same(decode_mask(file_of(image)), expected)

    def test_transparency_that_does_not_vary_is_ignored(self):
        image = noise(4, 4, 1).convert("LA")
        assert same(decode_mask(file_of(image)), image.getchannel("L"))

    def test_jpeg_noise_is_removed(self):
        mask = Image.new("L", (64, 64))
        mask.paste(255, (13, 13, 50, 50))
        decoded = np.asarray(decode_mask(file_of(mask, "JPEG", quality=75)))
        assert np.array_equal(decoded[:8], np.zeros((8, 64)))
        assert np.array_equal(decoded[20:40, 20:40], np.full((20, 20), 255))

    def test_size(self):
        data = file_of(noise(6, 5, 1))
        assert decode_mask(data, size=(6, 5)).size == (6, 5)
        with pytest.raises(InvalidMask, match="6x5 pixels, the picture 5x6"):
            decode_mask(data, size=(5, 6))

    def test_a_damaged_file(self):
        with pytest.raises(InvalidImage) as caught:
            decode_mask(b"no picture")
        assert caught.value.field == "mask"

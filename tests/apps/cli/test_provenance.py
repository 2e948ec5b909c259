"""Pictures say how they were made, whatever wrote the file; and can be made again."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import overpaint as package
from overpaint.apps.wiring.models import build
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.provenance import xmp
from tests.apps.conftest import SIZE
from tests.conftest import box_mask, picture

FORMATS = ("png", "jpg", "webp")
FEW = ("-O", "num_inference_steps=2")
EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@pytest.fixture
def sd2(desk, checkpoint_folder):
    """Settings with the tiny checkpoint; (lines of [provenance]) adds to them."""

    def write(*provenance: str) -> None:
        lines = ['device = "cpu"', 'dtype = "float32"', "[models.my-sd2]", 'family = "sd2"']
        lines += [f"folder = '{checkpoint_folder('sd2')}'", "[provenance]", *provenance]
        (desk / "overpaint.toml").write_text("\n".join(lines))

    write()
    return write


def inpaint(overpaint, out: str, *more: str):
    asked = ("photo.png", "a red kite", "--mask", "mask.png", "--seed", 7, "-o", out)
    ran = overpaint("inpaint", *asked, "--model", "my-sd2", *FEW, *more)
    assert ran.code == 0, ran.err
    return ran


def generic_source_type(file) -> str | None:
    """As a program reads it that knows XMP and not Overpaint."""
    with Image.open(file) as image:
        image.load()
        packet = image.info.get("xmp")
    if packet is None:
        return None
    root = ElementTree.fromstring(packet)
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    return next(each.attrib[name] for each in root.iter() if name in each.attrib)


class TestMarks:
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_edits_carry_the_source_type_by_default(self, overpaint, sd2, suffix):
        inpaint(overpaint, f"out.{suffix}")
        assert generic_source_type(f"out.{suffix}") == EDITED
        told = overpaint("verify", f"out.{suffix}", "--json").json
        assert told["digital_source_type"] == "compositeWithTrainedAlgorithmicMedia"
        assert told["trained_model"] is True
        assert told["tool"] == f"Overpaint {package.__version__}"
        assert told["recipe"] is None

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_erased_pictures_say_that_no_trained_model_did_it(self, overpaint, suffix):
        ran = overpaint("erase", "photo.png", "--mask", "mask.png", "-o", f"out.{suffix}")
        assert ran.code == 0, ran.err
        assert generic_source_type(f"out.{suffix}").endswith("/humanEdits")

    def test_erasing_launders_nothing(self, overpaint, desk):
        made = xmp.write(xmp.Mark("trainedAlgorithmicMedia"))
        images.save(Picture(picture(*SIZE), xmp=made), desk / "made.png")
        assert overpaint("erase", "made.png", "--mask", "mask.png", "-o", "out.png").code == 0
        assert generic_source_type("out.png").endswith("/trainedAlgorithmicMedia")

    def test_an_edit_of_a_photo_replaces_what_the_photo_said(self, overpaint, sd2, desk):
        photo = Picture(picture(*SIZE), xmp=xmp.write(xmp.Mark("digitalCapture")))
        images.save(photo, desk / "photo.png")
        inpaint(overpaint, "out.png")
        assert generic_source_type("out.png") == EDITED

    def test_marking_can_be_switched_off(self, overpaint, sd2):
        sd2("mark = false")
        inpaint(overpaint, "out.png")
        assert generic_source_type("out.png") is None
        ran = overpaint("verify", "out.png")
        assert (ran.code, ran.out) == (2, b"")

    def test_stdout_and_the_library_mark_too(self, overpaint, sd2, desk):
        assert generic_source_type(io.BytesIO(inpaint(overpaint, "-").out)) == EDITED
        engine = build.engine("my-sd2")
        mask = box_mask(*SIZE)
        result = engine.edit("photo.png", "kite", mask=mask, seed=7, num_inference_steps=2)
        result.save("saved.webp")
        assert generic_source_type("saved.webp") == EDITED
        assert "DigitalSourceType" in result.images[0].info["xmp"].decode()

    def test_a_file_that_is_no_picture(self, overpaint, desk):
        (desk / "a.txt").write_text("words")
        assert overpaint("verify", "a.txt").code == 2


class TestWatermark:
    SIDE = 224
    BOX = (32, 40, 200, 208)

    def marked(self, overpaint, desk, command="inpaint"):
        picture(self.SIDE, self.SIDE).save(desk / "photo.png")
        box_mask(self.SIDE, self.SIDE, self.BOX).save(desk / "mask.png")
        if command == "inpaint":
            inpaint(overpaint, "out.png")
        else:
            asked = ("erase", "photo.png", "--mask", "mask.png", "-o", "out.png")
            assert overpaint(*asked).code == 0

    def test_it_is_found_in_what_was_edited_alone(self, overpaint, sd2, desk):
        sd2("watermark = true", "recipe = true", "prompt = true", "mark = false")
        self.marked(overpaint, desk)
        before, after = (np.asarray(Image.open(desk / f"{n}.png")) for n in ("photo", "out"))
        outside = np.asarray(box_mask(self.SIDE, self.SIDE, self.BOX)) == 0
        assert np.array_equal(before[outside], after[outside])
        Image.open(desk / "out.png").save(desk / "bare.jpg", quality=80)
        ran = overpaint("verify", "bare.jpg", "--json")
        assert ran.code == 0
        assert ran.json["digital_source_type"] is None
        assert ran.json["watermark"]["score"] > 7
        assert b"watermark: Overpaint's" in overpaint("verify", "bare.jpg").out
        again = overpaint("replay", "out.png", *TestReplay.ALL, "-o", "again.png", "--json")
        assert again.json["same"] is True

    def test_a_picture_that_grew_has_it_in_its_border_alone(self, overpaint, sd2, desk):
        sd2("watermark = true")
        picture(self.SIDE, self.SIDE).save(desk / "photo.png")
        asked = ("extend", "photo.png", "a red kite", "--right", "160", "-o", "out.png")
        ran = overpaint(*asked, "--model", "my-sd2", "--seed", 7, *FEW)
        assert ran.code == 0, ran.err
        out = np.asarray(Image.open(desk / "out.png"))
        assert np.array_equal(out[:, : self.SIDE], np.asarray(Image.open(desk / "photo.png")))
        assert overpaint("verify", "out.png", "--json").json["watermark"]["score"] > 7

    def test_there_is_none_unless_it_is_asked_for(self, overpaint, sd2, desk):
        self.marked(overpaint, desk)
        assert overpaint("verify", "out.png", "--json").json["watermark"] is None

    def test_the_eraser_makes_none(self, overpaint, sd2, desk):
        sd2("watermark = true")
        self.marked(overpaint, desk, "erase")
        assert overpaint("verify", "out.png", "--json").json["watermark"] is None


class TestReplay:
    ALL = ("--image", "photo.png", "--mask", "mask.png")

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_the_same_picture_byte_by_byte(self, overpaint, sd2, suffix, desk):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, f"out.{suffix}")
        ran = overpaint("replay", f"out.{suffix}", *self.ALL, "-o", f"again.{suffix}", "--json")
        assert (ran.code, ran.json["same"]) == (0, True), ran.out
        assert (desk / f"again.{suffix}").read_bytes() == (desk / f"out.{suffix}").read_bytes()

    def test_each_of_several_pictures(self, overpaint, sd2):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, "out.png", "-n", "2")
        for number in (1, 2):
            ran = overpaint("replay", f"out-{number}.png", *self.ALL, "-o", "again.png")
            assert ran.code == 0
            first, second = (
                np.asarray(Image.open(f"{n}.png")).astype(int) for n in (f"out-{number}", "again")
            )
            assert abs(first - second).max() <= 1
            assert ("but for rounding" in ran.err) is bool((first != second).any())

    def test_an_inverted_mask_is_found(self, overpaint, sd2):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, "out.png", "--invert")
        assert overpaint("replay", "out.png", *self.ALL, "-o", "again.png").code == 0

    def test_prompts_stay_out_unless_asked_for(self, overpaint, sd2, desk):
        sd2("recipe = true")
        inpaint(overpaint, "out.png", "--negative", "a blue dog")
        packet = images.decode("out.png").xmp.decode()
        assert "kite" not in packet
        assert "dog" not in packet
        ran = overpaint("replay", "out.png", *self.ALL, "-o", "again.png")
        assert ran.code == 2
        assert "add --prompt" in ran.err
        assert "add --negative" in ran.err
        words = ("--prompt", "a red kite", "--negative", "a blue dog")
        assert overpaint("replay", "out.png", *self.ALL, *words, "-o", "again.png").code == 0
        assert (desk / "again.png").read_bytes() == (desk / "out.png").read_bytes()

    def test_all_that_is_missing_is_named_at_once(self, overpaint, sd2, desk):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, "out.png")
        picture(*SIZE, seed=99).save(desk / "other.png")
        ran = overpaint("replay", "out.png", "--image", "other.png", "--control", "other.png")
        assert ran.code == 2
        for said in ("--image is not the one", "--mask is missing", "the edit had no --control"):
            assert said in ran.err

    def test_another_prompt_is_another_picture(self, overpaint, sd2):
        sd2("recipe = true")
        inpaint(overpaint, "out.png")
        ran = overpaint("replay", "out.png", *self.ALL, "--prompt", "a dog", "-o", "again.png")
        assert ran.code == 1
        assert "not the same picture" in ran.err

    def test_without_a_recipe(self, overpaint, sd2):
        inpaint(overpaint, "out.png")
        ran = overpaint("replay", "out.png", *self.ALL)
        assert ran.code == 2
        assert "the file has no recipe" in ran.err

    @pytest.mark.parametrize(
        "record", ["{}", "[]", "3", "{", '{"model": {"name": 3}}', "[" * 5000, '{"seeds": []}']
    )
    def test_a_damaged_recipe(self, overpaint, desk, record):
        packet = xmp.write(xmp.Mark(record=record))
        images.save(Picture(picture(*SIZE), xmp=packet), desk / "odd.png")
        assert overpaint("replay", "odd.png", *self.ALL).code == 2
        assert overpaint("verify", "odd.png", "--json").code in (0, 2)

    def test_a_recipe_names_no_folders_here(self, overpaint, sd2, checkpoint_folder, desk):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, "out.png")
        made = images.decode("out.png")
        packet = made.xmp.decode().replace("my-sd2", str(checkpoint_folder("sd2")))
        images.save(Picture(made.rgb, xmp=packet.encode()), desk / "odd.png")
        ran = overpaint("replay", "odd.png", *self.ALL)
        assert ran.code == 2
        assert "which this machine does not have" in ran.err

    def test_other_weights_are_named(self, overpaint, sd2, desk):
        sd2("recipe = true", "prompt = true")
        inpaint(overpaint, "out.png")
        made = images.decode("out.png")
        packet = made.xmp.decode().replace("revision&quot;:&quot;", "revision&quot;:&quot;0")
        packet = packet.replace('"revision":"', '"revision":"0')
        images.save(Picture(made.rgb, xmp=packet.encode()), desk / "odd.png")
        ran = overpaint("replay", "odd.png", *self.ALL)
        assert ran.code == 2
        assert "other weights" in ran.err

    def test_pixels_changed_since_are_told(self, overpaint, sd2, desk):
        sd2("recipe = true")
        inpaint(overpaint, "out.png")
        assert overpaint("verify", "out.png", "--json").json["unchanged"] is True
        made = images.decode("out.png")
        images.save(Picture(picture(*SIZE), xmp=made.xmp), desk / "out.png")
        assert overpaint("verify", "out.png", "--json").json["unchanged"] is False
        assert b"changed since" in overpaint("verify", "out.png").out

    def test_lossy_files_cannot_tell_whether_pixels_changed(self, overpaint, sd2):
        sd2("recipe = true")
        inpaint(overpaint, "out.jpg")
        assert overpaint("verify", "out.jpg", "--json").json["unchanged"] is None

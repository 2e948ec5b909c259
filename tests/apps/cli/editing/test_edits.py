"""inpaint, edit and erase: what they write and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from overpaint.apps.cli.editing.job import parse_lora, parse_option
from overpaint.core.errors import UnsupportedOption
from overpaint.core.imaging import images
from tests.apps.conftest import SIZE, pixels
from tests.conftest import box_mask, picture

FAST = ("--dtype", "float32", "-O", "num_inference_steps=2")


def outside_of(mask):
    return np.asarray(Image.open(mask)) == 0


def test_erase_changes_the_masked_part_and_nothing_else(overpaint, desk):
    ran = overpaint("erase", "photo.png", "--mask", "mask.png")

    assert ran.code == 0
    assert ran.out.decode().split() == ["photo-edited.png"]
    before, after = pixels("photo.png"), pixels("photo-edited.png")
    outside = outside_of("mask.png")
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before, after)


def test_erase_copies_from_where_it_may(overpaint, desk):
    photo = Image.new("RGB", (120, 60), (200, 0, 0))
    photo.paste(Image.effect_noise((60, 60), 60), (0, 0))
    photo.save("halves.png")
    box_mask(120, 60, (50, 20, 70, 40)).save("hole.png")
    box_mask(120, 60, (0, 0, 45, 60)).save("left.png")
    erase = ("erase", "halves.png", "-m", "hole.png", "--seed", 5)

    assert overpaint(*erase, "--from", "left.png", "-o", "noise.png").code == 0
    assert overpaint(*erase, "--not-from", "left.png", "-o", "plain.png").code == 0
    noisy, plain = (pixels(name)[25:35, 62:68].std(axis=(0, 1)).mean() for name in
                    ("noise.png", "plain.png"))  # fmt: skip
    assert noisy > plain + 10


def test_several_masks_are_joined(overpaint, desk):
    left, right = (4, 4, 30, 40), (50, 30, 90, 70)
    for name, box in {"left": left, "right": right}.items():
        box_mask(*SIZE, box).save(f"{name}.png")
    both = Image.new("L", SIZE)
    for box in (left, right):
        both.paste(255, box)
    both.save("both.png")
    erase = ("erase", "photo.png", "--seed", 1)
    assert overpaint(*erase, "-m", "left.png", "-m", "right.png", "-o", "a.png").code == 0
    assert overpaint(*erase, "-m", "both.png", "-o", "b.png").code == 0
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    box_mask(9, 9).save("small.png")
    ran = overpaint(*erase, "-m", "left.png", "-m", "small.png", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (2, "invalid_mask")
    assert "small.png is 9x9" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("inpaint", "photo.png", "x", "-m", "mask.png"),
        ("inpaint", "photo.png", "x", "-m", "mask.png", "--control", "other.png"),
        ("edit", "photo.png", "x", "--reference", "other.png"),
    ],
)
def test_no_input_is_written_over(overpaint, desk, words):
    picture(*SIZE, 1).save("other.png")
    last = words[-1] if words[-1] != "mask.png" else "mask.png"
    before = (desk / last).read_bytes()
    ran = overpaint(*words, "-o", last, "--json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "output")
    assert (desk / last).read_bytes() == before


def test_words_come_from_a_file(overpaint, desk, checkpoint_folder):
    (desk / "words.txt").write_text("a red kite\n", encoding="utf-8")
    inpaint = ("inpaint", "photo.png", "-m", "mask.png", "--model", checkpoint_folder("sd2"))
    once = (*FAST, "--seed", 1, "--json", "-O", "num_inference_steps=1")
    from_file = overpaint(*inpaint, "@words.txt", *once, "-o", "a.png")
    assert from_file.code == 0, from_file.out
    assert overpaint(*inpaint, "a red kite", *once, "-o", "b.png").code == 0
    assert np.array_equal(pixels("a.png"), pixels("b.png"))
    ran = overpaint(*inpaint, "@gone.txt", *once)
    assert (ran.code, ran.json["error"]["field"]) == (2, "prompt")
    assert "write @@" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("erase", "photo.png", "-m", "mask.png", "-M", "tiny-sd2"), "use `overpaint inpaint`"),
        (("erase", "photo.png", "-m", "mask.png", "-M", "tiny-kontext"), "use `overpaint edit`"),
        (("inpaint", "photo.png", "x", "-m", "mask.png", "-M", "erase"), "use `overpaint erase`"),
        (("edit", "photo.png", "x", "-M", "erase"), "use `overpaint erase`"),
    ],
)
def test_a_model_of_another_task_names_the_command_that_fits(overpaint, desk, words, said):
    ran = overpaint(*words, "--json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "model")
    assert said in ran.json["error"]["message"]


@pytest.mark.parametrize("option", ["--from", "--not-from"])
def test_masks_of_what_to_copy_are_refused_by_their_own_name(overpaint, desk, option):
    box_mask(9, 9).save("small.png")
    ran = overpaint("erase", "photo.png", "-m", "mask.png", option, "small.png", "--json")
    assert ran.code == 2
    assert ran.json["error"]["field"] == {"--from": "copy_from", "--not-from": "not_from"}[option]


def test_erase_takes_seeds_and_looks_for_a_shadow(overpaint, desk):
    erase = ("erase", "photo.png", "-m", "mask.png", "--json")
    ran = overpaint(*erase, "--seed", 8, "-n", 2, "--shadow")
    assert ran.json["seeds"] == [8, 9]
    assert ran.json["recipe"]["options"]["shadow"] is True
    assert overpaint(*erase).json["recipe"]["options"]["shadow"] is False


def test_profile_and_exif_survive(overpaint, desk):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture(*SIZE).save("photo.png", icc_profile=profile, exif=exif)
    assert overpaint("erase", "photo.png", "--mask", "mask.png", "-o", "out.png").code == 0
    with Image.open("out.png") as written:
        assert written.info["icc_profile"] == profile
        assert written.getexif()[0x010E] == "a description"


@pytest.mark.parametrize(
    ("command", "family"), [("inpaint", "sd2"), ("inpaint", "flex2"), ("edit", "kontext")]
)
def test_each_family_from_a_folder(overpaint, desk, checkpoint_folder, command, family):
    ran = overpaint(
        command, "photo.png", "a kite", "--mask", "mask.png", "--model", checkpoint_folder(family),
        *FAST, "--seed", 3, "--negative", "rain", "--json",
    )  # fmt: skip

    assert ran.code == 0, ran.err
    told = ran.json
    assert told["outputs"] == ["photo-edited.png"]
    assert told["seeds"] == [3]
    assert told["recipe"]["model"]["family"] == family
    assert told["recipe"]["negative_prompt"] == "rain"
    assert told["timings"]["total"] > 0
    assert told["warnings"] == []
    outside = outside_of("mask.png")
    assert np.array_equal(pixels("photo.png")[outside], pixels("photo-edited.png")[outside])


def test_an_instruction_needs_no_mask(overpaint, desk, checkpoint_folder):
    picture(40, 30).save("other.png")
    ran = overpaint(
        "edit", "photo.png", "make it night", "--model", checkpoint_folder("kontext"), *FAST,
        "--reference", "other.png", "--seed", 1,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert pixels("photo-edited.png").shape == pixels("photo.png").shape


def test_a_control_picture_steers(overpaint, desk, checkpoint_folder):
    box_mask(*SIZE).convert("RGB").save("lines.png")
    common = ("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model",
              checkpoint_folder("flex2"), *FAST, "--seed", 3)  # fmt: skip
    assert overpaint(*common, "-o", "plain.png").code == 0
    assert overpaint(*common, "-o", "steered.png", "--control", "lines.png",
                     "-O", "control_stop=1").code == 0  # fmt: skip
    assert not np.array_equal(pixels("plain.png"), pixels("steered.png"))


def test_several_pictures_are_as_many_runs_with_the_seeds_told(overpaint, desk, checkpoint_folder):
    common = ("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model",
              checkpoint_folder("sd2"), *FAST, "--json")  # fmt: skip
    many = overpaint(*common, "-n", 3, "--seed", 7, "-o", "many.png").json
    assert many["outputs"] == ["many-1.png", "many-2.png", "many-3.png"]
    assert many["seeds"] == [7, 8, 9]
    for file, seed in zip(many["outputs"], many["seeds"], strict=True):
        overpaint(*common, "--seed", seed, "-o", "one.png", "--force")
        difference = pixels(file).astype(int) - pixels("one.png")
        assert np.abs(difference).max() <= 1


def test_the_mask_can_be_inverted_and_grown(overpaint, desk):
    plain = ("--feather", 0, "--seed", 1)
    overpaint("erase", "photo.png", "-m", "mask.png", "-o", "a.png", *plain)
    overpaint("erase", "photo.png", "-m", "mask.png", "-o", "b.png", "--grow", 4, *plain)
    changed = [(pixels(each) != pixels("photo.png")).any(axis=2) for each in ("a.png", "b.png")]
    assert changed[1].sum() > changed[0].sum()
    Image.open("mask.png").point(lambda value: 255 - value).save("negative.png")
    overpaint("erase", "photo.png", "-m", "negative.png", "--invert", "-o", "c.png", *plain)
    assert np.array_equal(pixels("a.png"), pixels("c.png"))


def test_how_a_mask_is_read_can_be_said(overpaint, desk):
    paint = Image.new("RGB", SIZE, "white")
    paint.paste("red", (16, 16, 40, 40))
    paint.save("paint.png")
    erase = ("erase", "photo.png", "--mask", "paint.png", "-o", "out.png", "--force")
    assert "say with mask_is" in " ".join(overpaint(*erase).err.split())
    assert overpaint(*erase, "--mask-is", "paint").code == 0
    changed = (pixels("photo.png") != pixels("out.png")).any(axis=2)
    assert changed[16:40, 16:40].any()
    assert not changed[40:].any()
    assert overpaint(*erase, "--mask-is", "black", "--json").json["error"]["field"] == "mask_is"
    boxed = ("erase", "photo.png", "--box", "1,1,9,9", "--mask-is", "white", "--json")
    assert overpaint(*boxed).json["error"]["field"] == "mask_is"


def test_a_mask_may_be_a_file_of_annotations(overpaint, desk):
    width, height = SIZE
    sizes = {"width": width, "height": height}
    names = enumerate(["other.png", "photo.png"])
    data = {
        "images": [{"id": number, "file_name": name, **sizes} for number, name in names],
        "annotations": [{"image_id": 1, "segmentation": [[16, 16, 39, 16, 39, 39, 16, 39]]}],
    }
    Path("marks.json").write_text(json.dumps(data))
    box_mask(width, height, (16, 16, 40, 40)).save("box.png")
    for mask, out in (("marks.json", "one.png"), ("box.png", "other.png")):
        assert overpaint("erase", "photo.png", "-m", mask, "--seed", 1, "-o", out).code == 0
    assert np.array_equal(pixels("one.png"), pixels("other.png"))


def test_16_bits_are_kept_or_missed_aloud(overpaint, desk):
    values = np.random.default_rng(0).integers(0, 65536, (*SIZE[::-1], 3), np.uint16)
    Path("deep.png").write_bytes(images.encode(images.Picture.from_array(values)))
    edit = ("erase", "deep.png", "-m", "mask.png", "--json")
    kept = overpaint(*edit, "-o", "out.png")
    assert not any("16 bits" in each for each in kept.json["warnings"])
    outside = outside_of("mask.png")
    assert (images.decode("out.png").raster.values[outside] == values[outside]).all()
    assert any("16 bits" in each for each in overpaint(*edit, "-o", "x.webp").json["warnings"])


def test_warnings_are_told(overpaint, desk):
    box_mask(*SIZE, (4, 0, *SIZE)).save("mask.png")
    ran = overpaint("erase", "photo.png", "--mask", "mask.png", "-o", "out.jpg")
    assert ran.code == 0
    # A mask that covers nearly all, a lossy format, and a toy.
    assert ran.err.count("Warning: ") == 3


def test_models_of_the_settings(overpaint, desk, checkpoint_folder):
    folder = checkpoint_folder("sd2")
    (desk / "overpaint.toml").write_text(
        f"dtype = 'float32'\n[defaults]\ninpaint = 'mine'\n"
        f"[models.mine]\nfamily = 'sd2'\nfolder = '{folder}'\n",
        encoding="utf-8",
    )
    ran = overpaint("inpaint", "photo.png", "a kite", "-m", "mask.png", *FAST[2:], "--json")
    assert ran.code == 0, ran.err
    assert ran.json["recipe"]["model"]["name"] == "mine"


def test_a_lora_reaches_the_recipe(overpaint, desk, checkpoint_folder):
    import torch

    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(2, 16), f"{name}.lora_B.weight": torch.ones(16, 2)},
        desk / "style.safetensors",
    )
    ran = overpaint(
        "inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", checkpoint_folder("sd2"),
        *FAST, "--lora", "style.safetensors:0.5", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (lora,) = ran.json["recipe"]["model"]["loras"]
    assert (lora["path"], lora["scale"]) == ("style.safetensors", 0.5)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("steps=4", ("steps", 4)),
        ("scale=0.5", ("scale", 0.5)),
        ("on=true", ("on", True)),
        ("length=null", ("length", None)),
        ("window=full", ("window", "full")),
        ("text=a=b", ("text", "a=b")),
    ],
)
def test_options_are_read_as_json_or_text(text, parsed):
    assert parse_option(text) == parsed


@pytest.mark.parametrize("text", ["steps", "=4", ""])
def test_an_option_without_value(text):
    with pytest.raises(UnsupportedOption, match="not KEY=VALUE"):
        parse_option(text)


def test_loras_have_a_path_and_perhaps_a_scale(desk):
    for name in ("a", "b:2"):
        (desk / name).touch()
    assert (str(parse_lora("a").path), parse_lora("a").scale) == ("a", 1.0)
    assert (str(parse_lora("a:0.5").path), parse_lora("a:0.5").scale) == ("a", 0.5)
    assert (str(parse_lora("b:2").path), parse_lora("b:2").scale) == ("b:2", 1.0)


@pytest.mark.parametrize("text", ["a:nan", "a:inf", "a:x", "nowhere", "nowhere:1"])
def test_a_lora_that_cannot_be(desk, text):
    (desk / "a").touch()
    with pytest.raises(UnsupportedOption):
        parse_lora(text)

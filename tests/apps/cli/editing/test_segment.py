"""The command `segment`, and masks that are found instead of given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.apps.conftest import pixels
from tests.conftest import picture
from tests.segmenters import checkpoints


@pytest.fixture
def disc(desk):
    """photo.png: a red square at 30..60, 20..50 on a plain ground."""
    image = Image.new("RGB", (96, 80), (200, 210, 200))
    image.paste((200, 30, 30), (30, 20, 60, 50))
    image.save(desk / "photo.png")
    truth = np.zeros((80, 96), bool)
    truth[20:50, 30:60] = True
    return truth


def overlap(file, truth) -> float:
    mask = np.asarray(Image.open(file)) > 127
    mask = mask if mask.ndim == 2 else mask[..., 0]
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize(
    "hints", [["--box", "28,18,62,52"], ["--point", "45,35"], ["--point=45,35", "--not-point=5,5"]]
)
def test_a_hint_makes_a_mask(overpaint, desk, disc, hints):
    ran = overpaint("segment", "photo.png", *hints, "-o", "found.png")
    assert ran.code == 0, ran.err
    assert ran.out.decode().strip() == "found.png"
    assert overlap(desk / "found.png", disc) > 0.95


def test_json_tells_what_was_found(overpaint, desk, disc):
    told = overpaint("segment", "photo.png", "--box", "28,18,62,52", "-o", "m.png", "--json").json
    assert told["output"] == "m.png"
    assert told["detections"][0]["box"] == pytest.approx([30, 20, 60, 50], abs=1)


def test_invert_and_grow(overpaint, desk, disc):
    overpaint("segment", "photo.png", "--box=28,18,62,52", "--grow=8", "--invert", "-o", "m.png")
    kept = np.asarray(Image.open(desk / "m.png").convert("L"))
    assert kept[35, 45] == 0
    assert kept[14, 45] == 0
    assert kept[5, 5] == 255


def test_coordinates_are_of_the_upright_picture(overpaint, desk, disc):
    upright = Image.open(desk / "photo.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: stored pixels stand on their side
    upright.transpose(Image.Transpose.ROTATE_90).save(desk / "turned.png", exif=exif)
    overpaint("segment", "turned.png", "--box", "28,18,62,52", "-o", "found.png")
    assert overlap(desk / "found.png", disc) > 0.95


def test_a_model_in_a_folder_finds_by_words(overpaint, desk):
    checkpoints.grounding_dino(desk / "dino")
    ran = overpaint("segment", "photo.png", "--text=the dog", "-M", "dino+grabcut", "-o", "m.png")
    # Random weights find something or nothing, and say so.
    assert ran.code == 0 or "'the dog' was not found" in ran.err


def test_everything(overpaint, desk):
    checkpoints.sam2(desk / "sam")
    ran = overpaint("segment", "photo.png", "--everything", "-M", "sam", "-o", "m.png")
    assert ran.code == 2
    assert "was not found" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --point, --box or --text"),
        (["--everything", "--point", "1,1"], "--everything alone"),
        (["--point", "1"], "point: '1' is not X,Y in pixels"),
        (["--box", "1,2,3,dog"], "box: '1,2,3,dog' is not LEFT,TOP,RIGHT,BOTTOM"),
        (["--point", "500,1"], "point: 500,1 lies outside the picture of 96x80 pixels"),
        (["--text", "dog"], "run `overpaint pull grounding-dino` (about 0.9 GB)"),
        (["--everything"], "run `overpaint pull sam2` (about 0.3 GB)"),
        (["--point", "1,1", "-M", "samm"], "there is no segmentation model 'samm'"),
        (["--text", "dog", "-M", "grabcut"], "grabcut cannot work from words"),
        (["--text", "dog", "-M", "grabcut+sam2"], "'grabcut' does not find boxes by words"),
    ],
)
def test_bad_input_is_named(overpaint, desk, monkeypatch, arguments, said):
    monkeypatch.setenv("OVERPAINT_CACHE", str(desk / "cache"))
    ran = overpaint("segment", "photo.png", *arguments, "-o", "m.png")
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert not (desk / "m.png").exists()


def test_erase_finds_its_own_mask(overpaint, desk, disc):
    before = pixels(desk / "photo.png")
    ran = overpaint("erase", "photo.png", "--box", "28,18,62,52", "--grow", "2", "-o", "out.png")
    assert ran.code == 0, ran.err
    assert "found at 30,20,60,50\n" in ran.err
    after = pixels(desk / "out.png")
    assert (after[35, 45].astype(int) - before[5, 5]).max() < 30
    assert (after[:10] == before[:10]).all()


def test_a_mask_or_hints_but_not_both(overpaint, desk):
    ran = overpaint("erase", "photo.png", "--mask", "mask.png", "--point", "4,4")
    assert ran.code == 2
    assert "not both" in ran.err
    ran = overpaint("erase", "photo.png")
    assert "give --mask FILE, --select WORDS, --box or --point" in ran.err


def test_select_needs_a_model_that_reads(overpaint, desk, monkeypatch):
    monkeypatch.setenv("OVERPAINT_CACHE", str(desk / "cache"))
    picture(96, 80).save(desk / "photo.png")
    ran = overpaint("erase", "photo.png", "--select", "the dog")
    assert ran.code == 2
    assert "overpaint pull grounding-dino" in ran.err


def test_segmenters_are_listed(overpaint, desk):
    listed = overpaint("models", "--json").json["segmenters"]
    assert {"grabcut", "sam2", "grounding-dino", "owlv2", "sam3"} <= {
        each["name"] for each in listed
    }

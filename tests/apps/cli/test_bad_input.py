"""What is wrong is named, with its field, and nothing is written."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from overpaint.core import files
from tests.apps.conftest import SIZE
from tests.conftest import picture


@pytest.fixture
def refused(overpaint, desk):
    """Run a command that must fail; both as a sentence and as JSON."""

    def run(*arguments, code=2):
        before = sorted(desk.rglob("*"))
        said = overpaint(*arguments)
        told = overpaint(*arguments, "--json")
        assert said.code == told.code == code
        assert sorted(desk.rglob("*")) == before
        assert said.out == b""
        assert said.err.count("\n") == 1
        assert said.err.startswith("Error: ")
        assert "Traceback" not in said.err
        assert told.err == ""
        return told.json["error"]

    return run


def erase(*more, image="photo.png", mask="mask.png"):
    return ("erase", image, "--mask", mask, *more)


@pytest.fixture
def inpaint(checkpoint_folder):
    def arguments(*more, prompt="a kite", family="sd2", image="photo.png"):
        model = ("--model", checkpoint_folder(family), "--dtype", "float32")
        return ("inpaint", image, prompt, "--mask", "mask.png", *model, *more)

    return arguments


def test_not_an_image(refused, desk):
    (desk / "notes.txt").write_text("hello", encoding="utf-8")
    error = refused(*erase(image="notes.txt"))
    assert (error["code"], error["field"]) == ("invalid_image", "image")


def test_no_such_file(refused):
    assert refused(*erase(image="nowhere.png"))["field"] == "image"
    assert refused(*erase(mask="nowhere.png"))["field"] == "mask"


def test_truncated(refused, desk):
    content = (desk / "photo.png").read_bytes()
    (desk / "photo.png").write_bytes(content[: len(content) // 2])
    error = refused(*erase())
    assert (error["code"], error["field"]) == ("invalid_image", "image")


def test_a_header_of_60000_by_60000_pixels(refused, desk):
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (desk / "photo.png").write_bytes(bomb)
    error = refused(*erase())
    assert (error["code"], error["field"]) == ("invalid_image", "image")
    assert "60000" in error["message"]


def test_a_mask_of_another_size(refused, desk):
    Image.new("L", (10, 10), 255).save(desk / "mask.png")
    error = refused(*erase())
    assert (error["code"], error["field"]) == ("invalid_mask", "mask")
    assert "10x10" in error["message"]


def test_an_empty_mask(refused, desk):
    Image.new("L", SIZE, 0).save(desk / "mask.png")
    error = refused(*erase())
    assert (error["code"], error["field"]) == ("invalid_mask", "mask")


def test_nothing_to_invert(refused, checkpoint_folder):
    model = ("--model", checkpoint_folder("kontext"))
    assert refused("edit", "photo.png", "night", "--invert", *model)["field"] == "mask"


def test_an_empty_prompt(refused, inpaint):
    assert refused(*inpaint(prompt="  "))["field"] == "prompt"


def test_a_mistyped_option(refused):
    error = refused(*erase("-O", "feathre=3"))
    assert error["field"] == "options.feathre"
    assert "did you mean feather?" in error["message"]


def test_a_prompt_for_a_model_without_words(refused):
    arguments = ("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", "erase")
    assert refused(*arguments)["field"] == "model"


def test_a_control_picture_for_a_model_that_takes_none(refused, inpaint):
    assert refused(*inpaint("--control", "mask.png"))["field"] == "control"


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("num_inference_steps=0", "options.num_inference_steps"),
        ("guidance_scale=NaN", "options.guidance_scale"),
        ("guidance_scale=Infinity", "options.guidance_scale"),
        ("guidance_scale=high", "options.guidance_scale"),
        ("colour=red", "options.colour"),
        ("no-value", "options"),
    ],
)
def test_options_that_cannot_be(refused, inpaint, option, field):
    error = refused(*inpaint("-O", option))
    assert (error["code"], error["field"]) == ("unsupported_option", field)


def test_a_height_that_is_no_multiple_of_16(refused, inpaint):
    size = ("-O", "height=1000", "-O", "width=1024")
    error = refused(*inpaint(*size, family="flex2"))
    assert error["field"] == "options.height"
    assert "multiple of 16" in error["message"]
    assert "992" in error["message"] or "1008" in error["message"]


def test_no_pictures(refused, inpaint):
    assert refused(*inpaint("-n", 0))["field"] == "num_images"


def test_a_negative_seed(refused, inpaint):
    assert refused(*inpaint("--seed", -1))["field"] == "seed"


def test_an_unknown_model(refused):
    error = refused("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", "flex3")
    assert error["code"] == "model_not_found"
    assert "flex2" in error["message"]


def test_an_unknown_device(refused, inpaint):
    assert refused(*inpaint("--device", "tpu"))["field"] == "device"


def test_a_model_that_was_not_pulled(refused, desk, monkeypatch):
    monkeypatch.setenv("OVERPAINT_CACHE", str(desk))
    error = refused("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", "sd2")
    assert "overpaint pull sd2" in error["message"]


def test_a_folder_with_a_pickle_only(refused, desk, checkpoint_folder):
    import shutil

    folder = desk / "pickled"
    shutil.copytree(checkpoint_folder("sd2"), folder)
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    arguments = ("inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", folder)
    error = refused(*arguments, code=1)
    assert error["code"] == "model_load_error"
    assert "pickles can run code" in error["message"]


def test_settings_at_fault(refused, desk):
    (desk / "overpaint.toml").write_text("devise = 'cpu'", encoding="utf-8")
    assert refused(*erase())["code"] == "invalid_settings"


@pytest.mark.parametrize("place", ["missing/out.png", "photo.png/out.png", "/proc/out.png"])
def test_an_output_folder_that_cannot_be_is_told_before_anything_is_read(refused, place):
    error = refused(*erase("-o", place, image="nowhere.png"))
    assert (error["code"], error["field"]) == ("output_error", "output")


def test_a_full_disk_leaves_no_file(refused, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    error = refused(*erase())
    assert error["code"] == "output_error"
    assert "disk is full" in error["message"]


def test_transparency_does_not_fit_jpeg(refused, desk):
    transparent = picture(*SIZE)
    transparent.putalpha(Image.new("L", SIZE, 100))
    transparent.save(desk / "photo.png")
    assert refused(*erase("-o", "out.jpg"))["code"] == "invalid_request"


def test_stdin_is_for_the_picture_alone(refused):
    assert refused(*erase(mask="-"))["field"] == "mask"


def test_json_and_picture_cannot_share_stdout(overpaint):
    ran = overpaint(*erase("-o", "-", "--json"))
    assert ran.code == 2
    assert ran.json["error"]["field"] == "json"


def test_an_unexpected_error_is_a_sentence_too(refused, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ZeroDivisionError("oh no")

    monkeypatch.setattr("overpaint.core.imaging.images.decode", fail)
    error = refused(*erase(), code=1)
    assert "this is a bug in Overpaint" in error["message"]


def test_debug_shows_the_traceback(overpaint, monkeypatch):
    assert "Traceback" in overpaint("--debug", *erase(image="nowhere.png")).err
    assert "Traceback" not in overpaint(*erase(image="nowhere.png")).err
    monkeypatch.setenv("OVERPAINT_DEBUG", "1")
    assert "Traceback" in overpaint(*erase(image="nowhere.png")).err


@pytest.mark.parametrize(
    "arguments",
    [("inpaint", "photo.png"), ("erase", "photo.png"), ("paint",), ("erase", "--colour")],
)
def test_usage_errors_have_the_same_exit_code_as_bad_input(overpaint, arguments):
    assert overpaint(*arguments).code == 2


def test_no_temporary_files_stay(overpaint, desk):
    overpaint(*erase())
    assert not list(Path(desk).glob(".*"))


def test_no_such_device_to_serve_on(overpaint):
    failed = overpaint("serve", "--device", "cdua")
    assert (failed.code, failed.out) == (2, b"")
    assert failed.err.startswith("Error: device: 'cdua' is not here; there is: ")


def test_no_such_level_of_logging(overpaint):
    failed = overpaint("serve", "--log-level", "loud")
    assert failed.code == 2
    assert "'debug', 'info', 'warning'" in failed.err


def test_the_demos_place_is_tried_first(overpaint, monkeypatch):
    monkeypatch.setattr("overpaint.apps.wiring.demo.page.sections", lambda: pytest.fail("it began"))
    failed = overpaint("demo", "-o", "nowhere/page.html")
    assert failed.code == 2
    assert failed.err == "Error: output: nowhere is not a folder; create it first\n"

"""The public names, as a list: changing them is a decision, not an accident."""

from __future__ import annotations

import importlib

import pytest
from PIL import Image

import overpaint
from overpaint.families.erase.options import EraseOptions
from overpaint.families.sd.options import SD2Options


def test_public_names():
    assert overpaint.__all__ == [
        "Component",
        "Denoiser",
        "Detection",
        "EditRequest",
        "EditResult",
        "Engine",
        "Family",
        "FamilyOptions",
        "FamilySpec",
        "Latent",
        "Lora",
        "Picture",
        "Plan",
        "Prepared",
        "Progress",
        "__version__",
        "detections",
        "errors",
        "extend",
        "load",
        "masks",
        "request",
        "segment",
    ]
    for name in overpaint.__all__:
        assert getattr(overpaint, name) is not None
    assert set(overpaint.__all__) <= set(dir(overpaint))


def test_errors_are_one_tree():
    codes = {
        error.code
        for error in vars(overpaint.errors).values()
        if isinstance(error, type) and issubclass(error, overpaint.errors.OverpaintError)
    }
    assert codes == {
        "broken_result",
        "run_stopped",
        "cancelled",
        "conflict",
        "content_blocked",
        "deadline_exceeded",
        "error",
        "invalid_image",
        "invalid_mask",
        "invalid_request",
        "invalid_settings",
        "licence_not_accepted",
        "locator_unavailable",
        "model_load_error",
        "model_not_found",
        "out_of_memory",
        "output_error",
        "overloaded",
        "rewriter_unavailable",
        "safety_unavailable",
        "session_not_found",
        "store_unavailable",
        "unsupported_option",
    }


def test_a_picture_is_opened_and_saved(tmp_path):
    Image.new("RGB", (20, 10), "teal").save(tmp_path / "in.png")
    opened = overpaint.Picture.open(tmp_path / "in.png")
    opened.save(tmp_path / "out.webp")
    assert overpaint.Picture.open(tmp_path / "out.webp").sha256 == opened.sha256


def test_a_request_is_made_of_whatever_people_have():
    made = overpaint.request(
        Image.new("RGB", (20, 10)), mask=Image.new("1", (20, 10), 1), seed="7", grow=2
    )
    assert (made.mask.mode, made.seed, made.options) == ("L", 7, {"grow": 2})
    with pytest.raises(overpaint.errors.InvalidRequest) as caught:
        overpaint.request(Image.new("RGB", (20, 10)), mask=3)
    assert caught.value.field == "mask"


def test_typed_options_stand_beside_keywords():
    image, mask = Image.new("RGB", (40, 40), "teal"), Image.new("L", (40, 40))
    mask.paste(255, (10, 10, 20, 20))
    engine = overpaint.load("erase")
    typed = engine.edit(image, mask=mask, seed=1, options=EraseOptions(shadow=True), grow=1)
    named = engine.edit(image, mask=mask, seed=1, shadow=True, grow=1)
    assert typed.recipe["options"] == named.recipe["options"]
    assert typed.pictures[0].sha256 == named.pictures[0].sha256
    with pytest.raises(overpaint.errors.UnsupportedOption, match="num_inference_steps"):
        engine.edit(image, mask=mask, options=SD2Options(num_inference_steps=3))


def test_things_are_found_by_a_box():
    image = Image.new("RGB", (60, 60), "white")
    image.paste("red", (20, 20, 40, 40))
    found = overpaint.segment(image, boxes=[(12, 12, 48, 48)])
    mask = overpaint.detections.union(found, image.size)
    assert mask.getpixel((30, 30)) == 255
    assert mask.getpixel((5, 5)) == 0


def test_a_model_may_be_a_path(checkpoint_folder):
    engine = overpaint.load(checkpoint_folder("sd2"))
    assert engine.model().record["family"] == "sd2"
    with pytest.raises(overpaint.errors.InvalidRequest, match="model: 5 is neither"):
        overpaint.load(5)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"boxes": [(1, 2)]}, r"boxes: give a list of \(left, top, right, bottom\)"),
        ({"boxes": (1, 2, 3, 4)}, "boxes: give a list"),
        ({"boxes": [("a", 2, 3, 4)]}, "boxes: give a list"),
        ({"points": [4, 5]}, r"points: give a list of \(x, y\)"),
        ({"points": 5}, "points: give a list"),
    ],
)
def test_hints_of_another_shape_are_named(hints, message):
    with pytest.raises(overpaint.errors.InvalidRequest, match=message):
        overpaint.segment(Image.new("RGB", (9, 9)), **hints)


def test_a_package_hides_no_function():
    importlib.import_module("overpaint.apps.wiring.models.segmentation")
    importlib.import_module("overpaint.segmenters.grabcut")
    assert callable(overpaint.segment)

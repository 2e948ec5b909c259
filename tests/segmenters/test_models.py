"""SAM 2, SAM 3 and the detectors on tiny random checkpoints: shapes, coordinates, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import segmentation
from overpaint.core.errors import InvalidSettings, ModelLoadError, UnsupportedOption
from overpaint.core.imaging.images import Picture
from overpaint.segmenters import checkpoint
from overpaint.segmenters.detector import ByWords
from overpaint.segmenters.grabcut import GrabCut
from overpaint.segmenters.sam import Sam2
from overpaint.segmenters.segmenter import Hints, Point
from overpaint.segmenters.text import GroundingDino, Owlv2, Sam3
from tests.conftest import picture
from tests.segmenters.checkpoints import OWL_SIDE, SAM2_SIDE, SAM3_SIDE
from tests.segmenters.conftest import CPU

WIDE = picture(200, 120)
BOXES = ((10.0, 10.0, 50.0, 60.0), (100.0, 20.0, 180.0, 100.0))


@pytest.fixture(scope="module")
def sam2(segmenter_folder):
    return Sam2(segmenter_folder("sam2"), CPU, grid=3)


@pytest.fixture(scope="module")
def sam3(segmenter_folder):
    model = Sam3(segmenter_folder("sam3"), CPU)
    model.threshold = 0.0
    return model


def test_sam2_finds_one_thing_in_each_box(sam2):
    found = sam2.segment(WIDE, Hints(boxes=BOXES))
    assert [each.mask.shape for each in found] == [(120, 200), (120, 200)]
    assert all(0 <= each.confidence <= 1 for each in found)


def test_sam2_boxes_do_not_depend_on_each_other(sam2):
    together = sam2.segment(WIDE, Hints(boxes=BOXES))
    alone = [sam2.segment(WIDE, Hints(boxes=(box,)))[0] for box in BOXES]
    for one, other in zip(together, alone, strict=True):
        assert (one.mask == other.mask).mean() > 0.999


def test_sam2_sees_coordinates_stretched_to_its_square(sam2):
    seen = {}
    with Watching(sam2._model, seen):
        sam2.segment(WIDE, Hints(points=(Point(50, 30), Point(199, 119, inside=False))))
        sam2.segment(WIDE, Hints(boxes=(BOXES[1],)))
    points = seen["input_points"]
    assert points.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(
        points[0, 0].numpy(),
        [[50 * SAM2_SIDE / 200, 30 * SAM2_SIDE / 120], [199 * 0.64, 119 * SAM2_SIDE / 120]],
        rtol=1e-5,
    )
    assert seen["input_labels"].tolist() == [[[1, 0]]]
    np.testing.assert_allclose(
        seen["input_boxes"][0, 0].numpy(),
        [100 * 0.64, 20 * SAM2_SIDE / 120, 180 * 0.64, 100 * SAM2_SIDE / 120],
        rtol=1e-5,
    )


def test_sam2_looks_everywhere_without_hints(sam2):
    seen = {}
    with Watching(sam2._model, seen):
        sam2.segment(WIDE, Hints())
    points = seen["input_points"][0, :, 0]
    assert points.shape == (9, 2)
    np.testing.assert_allclose(points[0].numpy(), [SAM2_SIDE / 6, SAM2_SIDE / 6], rtol=1e-5)


def test_sam2_keeps_what_it_trusts_and_no_repeats(sam2, monkeypatch):
    def decode(embeddings, prompts, *, several):
        count = prompts["input_points"].shape[1]
        logits = torch.full((count, 3, 32, 32), -9.0)
        logits[..., 8:16, 8:16] = 9.0
        scores = torch.tensor([0.9, 0.95, 0.3]).repeat(count, 1)
        return logits, scores

    monkeypatch.setattr(sam2, "_decode", decode)
    found = sam2.segment(WIDE, Hints())
    assert len(found) == 1
    assert found[0].confidence == pytest.approx(0.95)
    left, top, right, bottom = found[0].box
    assert (left, right) == pytest.approx((50, 100), abs=3)
    assert (top, bottom) == pytest.approx((30, 60), abs=2)


def test_sam2_does_not_read(sam2):
    with pytest.raises(UnsupportedOption, match="sam2 cannot work from words"):
        sam2.segment(WIDE, Hints(words="the dog"))


def test_grounding_dino_sees_and_answers_as_transformers_own_processor(segmenter_folder):
    detector = GroundingDino(segmenter_folder("grounding_dino"), CPU)
    detector.threshold = 0.0
    image_processor = transformers.GroundingDinoImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    processor = transformers.GroundingDinoProcessor(image_processor, detector._tokenizer)
    inputs = processor(images=WIDE, text="the red circle.", return_tensors="pt")
    assert torch.equal(detector._prepare(WIDE, detector._model), inputs["pixel_values"])

    with torch.inference_mode():
        answer = detector._model(**inputs)
    expected = processor.post_process_grounded_object_detection(
        answer, inputs["input_ids"], threshold=0.0, target_sizes=[(120, 200)]
    )[0]
    found = detector.find(WIDE, "The red circle")
    theirs = {tuple(round(value, 2) for value in box) for box in expected["boxes"].tolist()}
    ours = {tuple(round(value, 2) for value in each.box) for each in found}
    assert ours
    assert ours <= theirs
    assert [each.confidence for each in found] == sorted(
        (each.confidence for each in found), reverse=True
    )


def test_owlv2_boxes_are_of_the_padded_square(segmenter_folder):
    detector = Owlv2(segmenter_folder("owlv2"), CPU)
    detector.threshold = 0.0
    pixels = detector._prepare(WIDE, detector._model)
    theirs = transformers.Owlv2ImageProcessorPil(size={"height": OWL_SIDE, "width": OWL_SIDE})
    expected = theirs(WIDE, return_tensors="pt")["pixel_values"]
    assert pixels.shape == expected.shape
    assert float((pixels - expected).abs().mean()) < 0.05

    # Every patch answers with the box around itself, a quarter of the square.
    for weight in (detector._model.box_head.dense2.weight, detector._model.box_head.dense2.bias):
        weight.zero_()
    found = detector.find(WIDE, "red circle")
    assert found
    assert all(each.box[2] <= 200 and each.box[3] <= 120 for each in found)
    widths = [each.box[2] - each.box[0] for each in found if 0 < each.box[0] < each.box[2] < 200]
    assert widths == pytest.approx([50.0] * len(widths), abs=0.1)


def test_detections_by_words_are_outlined(segmenter_folder):
    detector = GroundingDino(segmenter_folder("grounding_dino"), CPU)
    detector.threshold = 0.0
    found = ByWords(detector, GrabCut()).segment(WIDE, Hints(words="the red circle"))
    assert found
    assert all(each.mask.shape == (120, 200) for each in found)
    assert {each.label for each in found} == {"the red circle"}
    detector.threshold = 1.1
    assert ByWords(detector, GrabCut()).segment(WIDE, Hints(words="the dog")) == []


def test_what_an_instruction_names_is_looked_for_by_words(segmenter_folder, monkeypatch):
    assert segmentation.locator(Settings()) is None
    with pytest.raises(InvalidSettings, match="there is no segmenter 'sam33'"):
        segmentation.locator(Settings(target_segmenter="sam33"))
    name = f"{segmenter_folder('grounding_dino')}+grabcut"
    locator = segmentation.locator(Settings(device="cpu", target_segmenter=name))
    monkeypatch.setattr(GroundingDino, "threshold", 0.0)
    place = locator.place(Picture.from_pil(WIDE), "the red circle")
    assert (place.mode, place.size) == ("L", WIDE.size)
    assert place.getbbox() is not None
    monkeypatch.setattr(GroundingDino, "threshold", 1.1)
    assert locator.place(Picture.from_pil(WIDE), "the red circle") is None


def test_points_and_boxes_go_to_the_outliner(segmenter_folder):
    segmenter = ByWords(GroundingDino(segmenter_folder("grounding_dino"), CPU), GrabCut())
    assert len(segmenter.segment(WIDE, Hints(boxes=BOXES))) == 2


def test_sam3_gives_masks_of_the_pictures_size(sam3):
    found = sam3.segment(WIDE, Hints(words="red circle"))
    assert found
    assert all(each.mask.shape == (120, 200) for each in found)
    assert {each.label for each in found} == {"red circle"}
    assert sam3._prepare.side == SAM3_SIDE


def test_sam3_needs_words(sam3):
    with pytest.raises(UnsupportedOption, match="sam3 cannot work from points"):
        sam3.segment(WIDE, Hints(boxes=BOXES))


def test_sam3_threshold(sam3, monkeypatch):
    monkeypatch.setattr(sam3, "threshold", 1.1)
    assert sam3.segment(WIDE, Hints(words="red circle")) == []


def test_the_kind_of_a_folder_is_read_from_it(segmenter_folder, tmp_path):
    assert checkpoint.model_type(segmenter_folder("sam2")) == "sam2"
    with pytest.raises(ModelLoadError, match="transformers layout"):
        checkpoint.model_type(tmp_path)


def test_pickles_are_not_read(segmenter_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((segmenter_folder("sam2") / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="cannot be loaded as Sam2Model"):
        Sam2(tmp_path, CPU)


class Watching:
    """Keeps what a model is called with."""

    def __init__(self, model, seen) -> None:
        self._model, self._seen = model, seen

    def __enter__(self) -> None:
        def keep(_module, _args, kwargs) -> None:
            self._seen.update(kwargs)

        self._hook = self._model.register_forward_pre_hook(keep, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

"""Workflow definitions in JSON, run by Roboflow's execution engine: predictions in, picture out."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
import supervision as sv
from inference.core.workflows.errors import RuntimeInputError, StepExecutionError, WorkflowError
from inference.core.workflows.execution_engine.entities import types
from pydantic import ValidationError

from overpaint import blocks
from overpaint.apps.wiring import painting
from overpaint.apps.workflow import Flex2InpaintingBlock, fields, load_blocks
from tests.roboflow.conftest import SIZE, bgr, marked, predictions, workflow

FEW = {"num_inference_steps": 2, "seed": 7, "keep_input_size": True}
BLOCKS = {
    "flex2_inpainting": {"prompt": "a red kite", **FEW},
    "sd2_inpainting": {"prompt": "a red kite", "model": "my-sd2", **FEW},
    "kontext_edit": {"prompt": "make it red", **FEW},
    "sdxl_inpainting": {"prompt": "a red kite", "model": "my-sdxl", **FEW},
    "fill_inpainting": {"prompt": "a red kite", "model": "my-fill", **FEW},
    "klein_edit": {"prompt": "make it red", "model": "my-klein_base", **FEW},
    "qwen_edit": {"prompt": "make it red", "model": "my-qwen_edit", **FEW},
    "erase": {"seed": 7},
}
VALUES = {
    "prompt": "a blue boat",
    "negative_prompt": "a red kite",
    "seed": 3,
    "height": 64,
    "width": 96,
    "classes": ["dog"],
    "confidence": 0.5,
    "when_missing": "keep",
    "invert": False,
    "keep_input_size": False,
    "control_strength": 0.7,
    "control_stop": 0.5,
    "num_inference_steps": 2,
    "guidance_scale": 4.0,
    "true_cfg_scale": 4.0,
    "strength": 0.9,
    "shadow": False,
    "grow": 2,
    "feather": 1,
    "repaint_beyond": 2,
    "follow": 2,
    "hold": False,
}


def pixels(result) -> np.ndarray:
    return result["image"].numpy_image


@pytest.mark.parametrize("block", BLOCKS)
def test_predictions_in_picture_out(run, block):
    definition = json.loads(json.dumps(workflow(block, **BLOCKS[block])))
    result = run(definition, image=bgr(), predictions=predictions())[0]
    assert pixels(result).shape == (SIZE[1], SIZE[0], 3)
    assert (pixels(result)[~marked()] == bgr()[~marked()]).all()
    assert (pixels(result)[marked()] != bgr()[marked()]).any()
    assert result["warnings"] == []
    assert result["seed"] == 7


@pytest.mark.parametrize("block", ["flex2_inpainting", "sd2_inpainting", "kontext_edit"])
def test_it_is_what_the_function_gives_from_rgb(run, block):
    result = run(workflow(block, **BLOCKS[block]), image=bgr(), predictions=predictions())[0]
    same = getattr(blocks, block)(
        image=bgr()[..., ::-1], segmentation_mask=predictions(), **BLOCKS[block]
    )
    np.testing.assert_array_equal(pixels(result)[..., ::-1], np.asarray(same.image))


def test_a_semantic_segmentation_is_taken_where_the_engine_has_it():
    kind = getattr(types, "SEMANTIC_SEGMENTATION_PREDICTION_KIND", None)
    taken = [each.name for each in fields.SEGMENTATION.kinds]
    assert ("semantic_segmentation_prediction" in taken) is (kind is not None)


@pytest.mark.parametrize(("strength", "fits"), [(0.0, True), (1.0, True), (1.1, False)])
def test_the_control_strength_is_a_share(strength, fits):
    definition = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    step = {**definition["steps"][0], "control_strength": strength}
    manifest = Flex2InpaintingBlock.get_manifest()
    if fits:
        assert manifest.model_validate(step).control_strength == strength
        return
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        manifest.model_validate(step)


def test_supervision_detections_are_understood(run):
    mask = marked()[None]
    found = sv.Detections(xyxy=sv.mask_to_xyxy(mask), mask=mask, confidence=np.array([0.9]))
    definition = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    from_detections = run(definition, image=bgr(), predictions=found)[0]
    from_json = run(definition, image=bgr(), predictions=predictions())[0]
    np.testing.assert_array_equal(pixels(from_detections), pixels(from_json))


def test_predictions_may_stand_in_the_definition(run):
    definition = workflow("erase", segmentation_mask=predictions())
    definition["inputs"] = definition["inputs"][:1]
    result = run(definition, image=bgr())[0]
    assert (pixels(result)[~marked()] == bgr()[~marked()]).all()
    assert (pixels(result) != bgr()).any()


def test_a_mask_picture_is_a_segmentation_too(run):
    definition = workflow("erase", segmentation_mask="$inputs.mask", seed=7)
    definition["inputs"][1] = {"type": "WorkflowImage", "name": "mask"}
    mask = np.where(marked(), np.uint8(255), np.uint8(0))
    result = run(definition, image=bgr(), mask=np.repeat(mask[..., None], 3, axis=2))[0]
    expected = run(workflow("erase", seed=7), image=bgr(), predictions=predictions())[0]
    np.testing.assert_array_equal(pixels(result), pixels(expected))


def test_a_batch_is_one_batch_of_the_engine(run, monkeypatch):
    sizes = []
    run_here = painting._run_here
    monkeypatch.setattr(
        painting,
        "_run_here",
        lambda batch, settings: sizes.append(len(batch)) or run_here(batch, settings),
    )
    definition = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    images = [bgr(seed) for seed in range(4)]
    batch = run(definition, image=images, predictions=[predictions()] * 4)
    assert sizes == [4]
    alone = [run(definition, image=image, predictions=predictions())[0] for image in images]
    for together, single in zip(batch, alone, strict=True):
        difference = pixels(together).astype(int) - pixels(single).astype(int)
        assert np.abs(difference).max() <= 1


def test_a_prompt_for_each_picture(run):
    definition = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    definition["inputs"].append({"type": "WorkflowBatchInput", "name": "words", "kind": ["string"]})
    definition["steps"][0]["prompt"] = "$inputs.words"
    two = run(
        definition,
        image=[bgr(), bgr()],
        predictions=[predictions(), predictions()],
        words=["a red kite", "a blue boat on the water"],
    )
    assert two[0]["recipe"]["prompt"] != two[1]["recipe"]["prompt"]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_field_takes_a_selector(run, block):
    fields = _fields(block)
    names = [name for name in fields if name in VALUES]
    literals = workflow(block, **{name: VALUES[name] for name in names}, **_model(block))
    selectors = workflow(
        block,
        inputs=dict.fromkeys(names, ""),
        **{name: f"$inputs.{name}" for name in names},
        **_model(block),
    )
    untouched = {"type", "name", "image", "segmentation_mask", "control_image", "model", "server"}
    untouched |= {"copy_from", "not_from", "reference_images", "extend", "target"}
    assert set(fields) - set(names) <= untouched
    wanted = run(literals, image=bgr(), predictions=predictions())[0]
    given = {name: VALUES[name] for name in names}
    result = run(selectors, image=bgr(), predictions=predictions(), **given)[0]
    np.testing.assert_array_equal(pixels(result), pixels(wanted))
    assert result["seed"] == VALUES["seed"]


GROWING: list[dict[str, Any]] = [{}, {"prompt": "a field", "model": "my-sd2", "anchor": "left"}]


@pytest.mark.parametrize("more", GROWING, ids=["erase", "sd2"])
def test_a_picture_grows(run, more):
    asked = {"left": "25%", "to": "2:1", "seed": 7, **more}
    definition = workflow("extend", **asked)
    del definition["steps"][0]["segmentation_mask"], definition["inputs"][1]
    (result,) = run(definition, image=bgr())
    assert pixels(result).shape == (80, 160, 3)
    same = blocks.extend(bgr()[..., ::-1], **asked)
    np.testing.assert_array_equal(pixels(result)[..., ::-1], np.asarray(same.image))


def test_where_the_eraser_copies_from_by_selector(run):
    right = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    right[:, 64:] = 255
    definition = workflow(
        "erase",
        inputs={"ground": "WorkflowImage"},
        copy_from="$inputs.ground",
        not_from="$inputs.predictions",
        seed=7,
    )
    ground = np.repeat(right[..., None], 3, axis=2)
    result = run(definition, image=bgr(), predictions=predictions(), ground=ground)[0]
    same = blocks.erase(
        bgr()[..., ::-1], predictions(), seed=7, copy_from=right, not_from=predictions()
    )
    np.testing.assert_array_equal(pixels(result)[..., ::-1], np.asarray(same.image))
    anywhere = run(workflow("erase", seed=7), image=bgr(), predictions=predictions())[0]
    assert (pixels(result) != pixels(anywhere)).any()


def test_the_model_and_the_control_picture_by_selector(run):
    plain = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    steered = workflow(
        "flex2_inpainting",
        inputs={"control": "WorkflowImage", "model": ""},
        control_image="$inputs.control",
        model="$inputs.model",
        control_stop=1.0,
        **BLOCKS["flex2_inpainting"],
    )
    without = run(plain, image=bgr(), predictions=predictions())[0]
    result = run(steered, image=bgr(), predictions=predictions(), control=bgr(5), model="my-flex2")[
        0
    ]
    assert (pixels(result) != pixels(without)).any()


def test_the_negative_prompt_changes_the_picture(run):
    plain = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"])
    steps = {**BLOCKS["flex2_inpainting"], "negative_prompt": "people, cars, buildings"}
    without = run(plain, image=bgr(), predictions=predictions())[0]
    result = run(workflow("flex2_inpainting", **steps), image=bgr(), predictions=predictions())[0]
    assert (pixels(result) != pixels(without)).any()
    assert result["recipe"]["negative_prompt"] == "people, cars, buildings"


def test_height_and_width_are_the_answers_size(run):
    steps = {"prompt": "a kite", "num_inference_steps": 1, "height": 64, "width": 112}
    result = run(workflow("flex2_inpainting", **steps), image=bgr(), predictions=predictions())[0]
    assert pixels(result).shape == (64, 112, 3)
    defaults = _fields("flex2_inpainting")
    assert (defaults["height"].default, defaults["width"].default) == (1024, 1024)


def test_where_nothing_was_found_no_model_runs(run, monkeypatch):
    monkeypatch.setattr(painting, "_run_here", lambda batch: pytest.fail("a model ran"))
    definition = workflow("flex2_inpainting", **BLOCKS["flex2_inpainting"], confidence=0.95)
    for found in (predictions(count=0), predictions(), sv.Detections.empty()):
        result = run(definition, image=bgr(), predictions=found)[0]
        np.testing.assert_array_equal(pixels(result), bgr())
        assert len(result["warnings"]) == 1
        assert result["seed"] is None


def test_classes_choose(run):
    chosen = workflow("erase", classes=["cat"], when_missing="keep")
    result = run(chosen, image=bgr(), predictions=predictions(name="dog"))[0]
    np.testing.assert_array_equal(pixels(result), bgr())
    assert "names: dog" in result["warnings"][0]
    with pytest.raises(StepExecutionError, match="no detection is of 'cat'"):
        run(workflow("erase", classes=["cat"]), image=bgr(), predictions=predictions())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_inference_steps", 0),
        ("guidance_scale", "much"),
        ("height", 100),
        ("control_stop", 1.5),
        ("confidence", 2),
        ("when_missing", "stop"),
        ("seed", -1),
        ("server", "ftp://machine"),
        ("prompt", None),
    ],
)
def test_a_wrong_literal_is_the_engines_own_error(run, field, value):
    fields = {**BLOCKS["flex2_inpainting"], field: value}
    with pytest.raises(WorkflowError) as caught:
        run(workflow("flex2_inpainting", **fields), image=bgr(), predictions=predictions())
    assert field in str(caught.value) + str(caught.value.inner_error)


@pytest.mark.parametrize(
    ("field", "value"), [("num_inference_steps", 0), ("confidence", 7), ("classes", "dog")]
)
def test_a_wrong_selected_value_is_the_engines_own_error(run, field, value):
    fields = {**BLOCKS["flex2_inpainting"], field: f"$inputs.{field}"}
    definition = workflow("flex2_inpainting", inputs={field: ""}, **fields)
    with pytest.raises(RuntimeInputError, match=f"property {field}"):
        run(definition, image=bgr(), predictions=predictions(), **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model", "my-sd2", "'my-sd2' is of the family sd2"),
        ("model", "nobody", "there is no model 'nobody'"),
        ("prompt", " ", "prompt: is empty"),
    ],
)
def test_what_only_the_block_can_know_stops_its_step(run, field, value, said):
    fields = {**BLOCKS["flex2_inpainting"], field: f"$inputs.{field}"}
    definition = workflow("flex2_inpainting", inputs={field: ""}, **fields)
    with pytest.raises(StepExecutionError, match=said):
        run(definition, image=bgr(), predictions=predictions(), **{field: value})


def test_a_picture_of_a_batch_is_named(run):
    wrong = predictions()
    wrong["predictions"][0]["confidence"] = float("nan")
    definition = workflow("erase")
    with pytest.raises(WorkflowError, match=r"picture 1 of 2: .*confidence of detection 0 is nan"):
        run(definition, image=[bgr(), bgr()], predictions=[predictions(), wrong])


def test_manifests_describe_themselves():
    for block in load_blocks():
        manifest = block.get_manifest()
        schema = manifest.model_json_schema()
        assert schema["name"]
        assert schema["block_type"] == "model"
        assert all(
            field.get("description") and field.get("examples")
            for name, field in schema["properties"].items()
            if name not in {"type", "name"}
        )
        assert manifest.get_execution_engine_compatibility() == ">=1.6.0,<2.0.0"


def test_blocks_run_without_the_internet():
    prototypes = pytest.importorskip("inference.core.workflows.prototypes.block")
    if not hasattr(prototypes, "AirGappedAvailability"):
        pytest.skip("this engine does not ask")
    assert all(
        block.get_manifest().get_air_gapped_availability().available for block in load_blocks()
    )


def _fields(block: str) -> dict[str, Any]:
    """The fields of that block's manifest."""
    manifests = [each.get_manifest().model_fields for each in load_blocks()]
    types = [get_args(fields["type"].annotation) for fields in manifests]
    return manifests[types.index((f"overpaint/{block}@v1",))]


def _model(block: str) -> dict[str, str]:
    """The model that a block needs beside the settings' defaults."""
    return {key: value for key, value in BLOCKS[block].items() if key == "model"}

"""Every family with every kind of input, on the second device beside the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import segmentation
from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import TIERS, Placement
from overpaint.core.imaging.images import Picture
from overpaint.core.models import Lora
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.segmenters.segmenter import Hints, Point
from overpaint.sessions import Editor
from overpaint.sessions.store import Store
from tests.conftest import box_mask, open_checkpoint, picture
from tests.segmenters.conftest import segmenter_folder  # noqa: F401 - a fixture

SIDE = 128
FEW = {"num_inference_steps": 4}
MASK = {"mask": box_mask(SIDE, SIDE)}
FULL = {**MASK, "window": "full"}
SHORT = {"max_sequence_length": 48}
PICTURE = {"control": picture(SIDE, SIDE, seed=5)}

EDITS = {
    "sd2": [
        MASK,
        FULL,
        {**MASK, "negative_prompt": "blue", "strength": 0.6},
        {**MASK, "guidance_scale": 1.0},
        {**MASK, "preset": "fast"},
        {**MASK, "num_images": 2},
        {**MASK, "height": 64, "width": 96},
    ],
    "sdxl": [
        MASK,
        FULL,
        {**MASK, "negative_prompt": "blue", "strength": 0.6},
        {**MASK, "guidance_scale": 1.0},
        {**MASK, "strength": 1.0},
        {**MASK, "preset": "fast"},
        {**MASK, "num_images": 2},
    ],
    "fill": [
        MASK,
        FULL,
        {**MASK, "negative_prompt": "blue", "strength": 0.5},
        {**FULL, "refresh_every": 2, "negative_prompt": "blue"},
        {**FULL, "preset": "balanced"},
        {**FULL, "preset": "fast"},
        {**MASK, "num_images": 2},
    ],
    "flex2": [
        MASK,
        FULL,
        {**MASK, "negative_prompt": "blue"},
        {**MASK, **PICTURE},
        {**MASK, **PICTURE, "control_stop": 0.5},
        {**FULL, "refresh_every": 3},
        {**FULL, "refresh_every": 3, "negative_prompt": "blue"},
        {**FULL, "refresh_every": 2, "freeze_text": True},
        {**FULL, "preset": "balanced"},
        {**FULL, "preset": "fast"},
        {**MASK, "num_images": 2},
    ],
    "kontext": [
        {},
        MASK,
        FULL,
        {**MASK, "strength": 0.5},
        {"references": [picture(96, SIDE, seed=6), picture(SIDE, 64, seed=7)]},
        {"negative_prompt": "blue"},
        {"preset": "balanced"},
        {"preset": "fast"},
        {**FULL, "refresh_every": 2, "negative_prompt": "blue"},
        {"references": [picture(96, SIDE, seed=6)], "refresh_every": 2},
        {"num_images": 2},
    ],
    "klein": [
        SHORT,
        {**SHORT, **MASK},
        {**SHORT, **MASK, "strength": 0.5, "wide_mask": True},
        {**SHORT, "references": [picture(96, SIDE, seed=6), picture(SIDE, 64, seed=7)]},
        {**SHORT, "preset": "balanced"},
        {**SHORT, **FULL, "preset": "fast"},
        {**SHORT, "num_images": 2},
    ],
    "qwen-edit": [
        {},
        {**MASK, "strength": 0.5},
        {**FULL, "true_cfg_scale": 1.0},
        {"references": [picture(96, SIDE, seed=6)], "negative_prompt": "blue"},
        {"picture_positions": "sequence", "preset": "fast"},
        {"num_images": 2},
    ],
}
VARIANTS = {
    "klein_base": [
        {**SHORT, "negative_prompt": "blue"},
        {**SHORT, **FULL, "refresh_every": 2, "freeze_text": True},
    ],
    "klein_kv": [
        {**SHORT, "references": [picture(96, SIDE, seed=6)], "num_images": 2},
        {**SHORT, **FULL, "refresh_every": 2},
    ],
}
"""Checkpoints of families that are in `EDITS`, of which only the arithmetic differs."""

CASES = [(name, case) for name, cases in (EDITS | VARIANTS).items() for case in cases]


def named(value) -> str | None:
    return value if isinstance(value, str) else "-".join(value) or "plain"


def pixels(result) -> np.ndarray:
    return np.stack([np.asarray(image, int) for image in result.images])


def edit(engine, **arguments) -> np.ndarray:
    prompt = "" if engine.default_model == "erase" else "a red circle"
    return pixels(engine.edit(picture(SIDE, SIDE), prompt, seed=1, **arguments))


@pytest.mark.parametrize(("family", "case"), CASES, ids=named)
def test_an_edit_is_the_processors_own(make_on, family, case):
    expected = edit(make_on(family, "cpu"), **FEW, **case)
    assert abs(edit(make_on(family, "card"), **FEW, **case) - expected).max() <= 1


def test_the_eraser_needs_no_card(make_on):
    assert (edit(make_on("erase", "card"), **MASK) == edit(make_on("erase", "cpu"), **MASK)).all()


def test_both_cards_give_the_same_bytes(make_on):
    first, second = (edit(make_on("kontext", f"card:{index}"), **FEW) for index in range(2))
    assert (first == second).all()


def test_a_buffer_left_behind_fails_as_on_cuda(make_on, monkeypatch):
    """The landed loader left CLIP's `position_ids` on the processor: this is what it did."""

    def left_behind(model, folder, dtype, device, _):
        weights_alone = {
            name: tensor.to(device)
            for file in weights.files(folder)
            for name, tensor in weights._tensors(file, set(model.state_dict()), dtype)
        }
        model.load_state_dict(weights_alone, strict=False, assign=True)
        if callable(tie := getattr(model, "tie_weights", None)):
            tie()
        return True

    monkeypatch.setattr(weights, "load_into", left_behind)
    with pytest.raises(RuntimeError, match="same device"):
        edit(make_on("sd2", "card"), **FEW, **MASK)


@pytest.mark.parametrize("family", EDITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_parameter_and_buffer_is_on_the_card(cards, checkpoint_folder, family, dtype):
    card = torch.device("card", 1)
    checkpoint = open_checkpoint(checkpoint_folder(family), Placement(card, dtype))
    for name in checkpoint.components:
        component = checkpoint.component(name)
        if isinstance(component, torch.nn.Module):
            tensors = (*component.named_parameters(), *component.named_buffers())
            assert {str(each.device) for _, each in tensors} == {"card:1"}, name


@pytest.mark.parametrize("family", ["sd2", "sdxl", "fill", "kontext", "qwen-edit"])
def test_with_an_adapter(make_on, checkpoint_folder, tmp_path, family):
    denoiser = "unet" if family in ("sd2", "sdxl") else "transformer"
    checkpoint = open_checkpoint(
        checkpoint_folder(family), Placement(torch.device("cpu"), torch.float32)
    )
    torch.manual_seed(0)
    model = checkpoint.component(denoiser)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    model.save_lora_adapter(tmp_path)
    loras = (Lora(tmp_path),)
    expected, found = (
        edit(make_on(family, device, loras=loras), **FEW, **MASK) for device in ("cpu", "card")
    )
    assert abs(found - expected).max() <= 1
    assert (expected != edit(make_on(family, "cpu"), **FEW, **MASK)).any()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("family", EDITS)
def test_in_every_tier_of_memory(make_on, monkeypatch, family, tier):
    from overpaint.checkpoints import placement

    def chosen(name, need, free):
        out = need.ahead > 0 and TIERS.index(tier) >= TIERS.index("modulation out")
        resident = dict.fromkeys(need.blocks, 1) if tier == "streamed" else {}
        return placement.MemoryPlan(need.weights, need.peak(tier), free, tier, out, resident)

    expected = edit(make_on(family, "cpu"), **FEW, **MASK)
    monkeypatch.setattr(placement, "preflight", chosen)
    assert abs(edit(make_on(family, "card"), **FEW, **MASK) - expected).max() <= 1


def requests(count: int) -> list[EditRequest]:
    return [
        EditRequest(
            image=Picture.from_pil(picture(SIDE, SIDE, seed=index)),
            prompt="a red circle",
            seed=index,
            options={"num_inference_steps": 2 + index},
        )
        for index in range(count)
    ]


def test_several_requests_at_once(make_on):
    expected, found = (
        [pixels(each) for each in make_on("kontext", device).run(requests(3))]
        for device in ("cpu", "card")
    )
    assert all(abs(a - b).max() <= 1 for a, b in zip(expected, found, strict=True))


def test_the_batcher_and_its_previews(make_on):
    expected = [pixels(make_on("kontext", "cpu").run([each])[0]) for each in requests(3)]
    previews = []
    batcher = Batcher(make_on("kontext", "card"))
    try:
        tickets = [
            batcher.submit(each, previews=1, on_update=lambda update: previews.append(update))
            for each in requests(3)
        ]
        found = [pixels(ticket.result(60)) for ticket in tickets]
    finally:
        batcher.close()
    assert all(abs(a - b).max() <= 1 for a, b in zip(expected, found, strict=True))
    assert any(update.preview is not None for update in previews)


def test_a_session(make_on, tmp_path):
    editor = Editor.with_engine(
        make_on("kontext", "card"),
        store=Store(f"sqlite:///{tmp_path / 'sessions.db'}", tmp_path / "pictures"),
    )
    session = editor.new(picture(SIDE, SIDE))
    for seed in range(2):
        session, turn = editor.edit(session.id, "a red circle", seed=seed, **FEW)
    assert turn.recipe["model"]["device"] == "card:0"
    assert editor.picture(turn).size == (SIDE, SIDE)


HINTS = {
    "sam2": Hints(points=(Point(50, 40),)),
    "sam3": Hints(words="a red circle."),
    "grounding_dino+grabcut": Hints(words="a red circle."),
    "owlv2+grabcut": Hints(words="a red circle."),
}


@pytest.mark.parametrize("name", HINTS)
def test_segmenters(cards, segmenter_folder, name):  # noqa: F811
    finder, joint, outliner = name.partition("+")
    model = f"{segmenter_folder(finder)}{joint}{outliner}"
    found = []
    for device in ("cpu", "card"):
        segmenter = segmentation.load(model, Settings(device=device))
        if finder == "sam3":
            segmenter.threshold = 0.0
        found.append(segmenter.segment(picture(SIDE, 96), HINTS[name]))
    expected, here = found
    assert len(expected) == len(here)
    for one, other in zip(expected, here, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert (one.mask == other.mask).mean() > 0.999

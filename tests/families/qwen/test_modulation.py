"""Modulation computed ahead is the modulation, and its weights are gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import QwenImageTransformer2DModel

from overpaint.checkpoints.placement import Placement
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.qwen import QWEN_EDIT_FAMILY, modulation
from tests import tiny_checkpoints
from tests.conftest import box_mask, open_checkpoint, picture

GUIDED = {"negative_prompt": "blue"}


@pytest.fixture(scope="module", params=[True, False], ids=["2511", "2509"])
def folder(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("qwen") / "checkpoint"
    return tiny_checkpoints.qwen_edit(where, zero_cond_t=request.param)


def load(folder, *, evict, dtype=torch.float32) -> Model:
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), dtype))
    checkpoint.evict_ahead = evict
    return Model(QWEN_EDIT_FAMILY.open(checkpoint), checkpoint, record={"name": "qwen-edit"})


def pictures(model: Model, **more) -> np.ndarray:
    engine = Engine(lambda _: model, "model")
    result = engine.edit(
        picture(64, 64), "red", seed=2, num_images=2, num_inference_steps=3, composite=False, **more
    )
    return np.stack([np.asarray(each, int) for each in result.images])


@pytest.mark.parametrize("more", [GUIDED, {"mask": box_mask(64, 64), "true_cfg_scale": 1}])
def test_edits_without_the_weights_are_the_edits_with_them(folder, more):
    whole, evicted = (pictures(load(folder, evict=evict), **more) for evict in (False, True))
    assert np.abs(whole - evicted).max() <= 1


def test_the_weights_are_gone_and_counted(folder):
    whole, evicted = (load(folder, evict=evict).checkpoint for evict in (False, True))
    sizes = [
        sum(each.numel() for each in one.component("transformer").parameters())
        for one in (whole, evicted)
    ]
    assert modulation.evicted(evicted.component("transformer"))
    assert not modulation.evicted(whole.component("transformer"))
    assert whole.need().ahead == 4 * (sizes[0] - sizes[1])


def test_a_schedule_is_computed_once_for_all_edits(folder, monkeypatch):
    model = load(folder, evict=True)
    calls = []
    compute = modulation.compute

    def counted(*arguments):
        calls.append(arguments)
        return compute(*arguments)

    monkeypatch.setattr(modulation, "compute", counted)
    pictures(model, **GUIDED)
    pictures(model, negative_prompt="another")
    assert len(calls) == 1
    model.checkpoint.states.clear()
    pictures(model, **GUIDED)
    assert len(calls) == 2


def test_a_third_of_the_real_transformer_leaves():
    with torch.device("meta"):
        whole, evicted = (QwenImageTransformer2DModel() for _ in range(2))
    modulation.evict(evicted)
    left = {name for name, _ in whole.named_parameters()} - dict(evicted.named_parameters()).keys()
    ahead = QWEN_EDIT_FAMILY.components["transformer"].ahead
    assert ahead is not None
    assert left == {name for name, _ in whole.named_parameters() if ahead.weights.search(name)}
    numbers = sum(dict(whole.named_parameters())[name].numel() for name in left)
    assert numbers == pytest.approx(6.83e9, rel=0.01)
    assert sum(each.numel() for each in evicted.parameters()) == pytest.approx(13.6e9, rel=0.01)

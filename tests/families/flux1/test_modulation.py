"""Modulation computed ahead is the modulation, and its weights are gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux1 import FILL_FAMILY, FLEX2_FAMILY, KONTEXT_FAMILY, modulation
from tests.conftest import box_mask, open_checkpoint, picture

FAMILIES = {"fill": FILL_FAMILY, "flex2": FLEX2_FAMILY, "kontext": KONTEXT_FAMILY}


def load(folder, family, *, evict, dtype=torch.float32) -> Model:
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), dtype))
    checkpoint.evict_ahead = evict
    return Model(FAMILIES[family].open(checkpoint), checkpoint, record={"name": family})


def pictures(model: Model, **options) -> np.ndarray:
    engine = Engine(lambda _: model, "model")
    result = engine.edit(
        picture(), "a red circle", mask=box_mask(), seed=2, num_images=2,
        num_inference_steps=3, composite=False, **options,
    )  # fmt: skip
    return np.stack([np.asarray(each, int) for each in result.images])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"negative_prompt": "blue"}, {"refresh_every": 2}])
def test_edits_without_the_weights_are_the_edits_with_them(checkpoint_folder, family, options):
    folder = checkpoint_folder(family)
    whole = pictures(load(folder, family, evict=False), **options)
    evicted = pictures(load(folder, family, evict=True), **options)
    assert np.abs(whole - evicted).max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_agree_and_a_fifth_of_the_weights_is_gone(checkpoint_folder, dtype):
    folder = checkpoint_folder("flex2")
    models = [load(folder, "flex2", evict=evict, dtype=dtype) for evict in (False, True)]
    whole, evicted = (model.checkpoint.component("transformer") for model in models)
    assert modulation.evicted(evicted)
    assert not modulation.evicted(whole)
    sizes = [sum(each.numel() for each in one.parameters()) for one in (whole, evicted)]
    assert sizes[1] < 0.8 * sizes[0]
    torch.manual_seed(0)
    given = {
        "hidden_states": torch.randn(1, 16, 196, dtype=dtype),
        "encoder_hidden_states": torch.randn(1, 8, whole.config.joint_attention_dim, dtype=dtype),
        "img_ids": torch.zeros(16, 3, dtype=dtype),
        "txt_ids": torch.zeros(8, 3, dtype=dtype),
        "timestep": torch.tensor([0.75], dtype=dtype),
    }
    pooled = torch.randn(1, whole.config.pooled_projection_dim, dtype=dtype)
    times = torch.tensor([1000.0, 750.0])
    numbers = modulation.compute(evicted, folder / "transformer", times, 3.5, pooled)
    with torch.inference_mode():
        expected = whole(**given, guidance=torch.tensor([3.5]), pooled_projections=pooled).sample
        found = evicted(**given, pooled_projections=numbers[1:]).sample
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    assert (found - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


def test_a_checkpoint_without_those_weights_is_refused(checkpoint_folder):
    folder = checkpoint_folder("flex2") / "transformer"
    with pytest.raises(ModelLoadError, match=r"holds no 'no\.such\.weight'"):
        dict(weights.tensors(folder, ["proj_out.weight", "no.such.weight"]))

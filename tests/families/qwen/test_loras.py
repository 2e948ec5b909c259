"""Adapters in the namings that people have for Qwen-Image, beside diffusers on the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from overpaint.checkpoints.placement import Placement
from overpaint.core.models import Lora
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.qwen import QWEN_EDIT_FAMILY
from tests.conftest import open_checkpoint, picture
from tests.parity import oracle_qwen

RANK, ALPHA = 2, 4.0
ADAPTED = ("to_q", "add_k_proj", "to_add_out", "to_out.0", "img_mlp.net.2", "txt_mod.1")
"""Ends of the names of adapted layers; modulation is among them."""

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(checkpoint_folder) -> Path:
    return checkpoint_folder("qwen-edit")


@pytest.fixture(scope="module")
def pairs(folder) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down, up) by layer."""
    generator = torch.Generator().manual_seed(0)
    transformer = open_checkpoint(folder, CPU).component("transformer")
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=generator) * 0.3,
            torch.randn(layer.out_features, RANK, generator=generator) * 0.3,
        )
        for name, layer in transformer.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.endswith(ADAPTED)
    }


def as_diffusers(pairs):
    return {
        f"transformer.{name}.lora_{side}.weight": weight
        for name, pair in pairs.items()
        for side, weight in zip("AB", pair, strict=True)
    }


def as_comfyui(pairs):
    return {
        name.replace("transformer.", "diffusion_model.", 1): weight
        for name, weight in as_diffusers(pairs).items()
    }


def with_alphas(pairs):
    """As the published Lightning adapters."""
    weights = {}
    for name, (down, up) in pairs.items():
        weights |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        weights[f"{name}.alpha"] = torch.tensor(ALPHA)
    return weights


def as_kohya(pairs):
    weights = {}
    for name, pair in pairs.items():
        module = f"lora_unet_{name.replace('.', '_')}"
        for kind, weight in zip(("lora_down", "lora_up"), pair, strict=True):
            weights[f"{module}.{kind}.weight"] = weight
        weights[f"{module}.alpha"] = torch.tensor(ALPHA)
    return weights


def edited(folder, *loras) -> np.ndarray:
    checkpoint = open_checkpoint(folder, CPU, loras=loras)
    model = Model(QWEN_EDIT_FAMILY.open(checkpoint), checkpoint)
    result = Engine(lambda _: model, "model").edit(
        picture(64, 64), "red", seed=1, num_inference_steps=2, composite=False, height=64, width=64
    )
    assert not result.warnings
    return np.asarray(result.images[0], int)


def expected(folder, file: Path) -> np.ndarray:
    pipeline = oracle_qwen.plus(folder)
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    with oracle_qwen.small_areas(), oracle_qwen.grid_positions(pipeline):
        made = pipeline(
            image=[picture(64, 64)],
            prompt="red",
            negative_prompt=" ",
            num_inference_steps=2,
            height=64,
            width=64,
            generator=torch.Generator().manual_seed(1),
        )
    return np.asarray(made.images[0], int)


@pytest.mark.parametrize("naming", [as_diffusers, as_comfyui, with_alphas, as_kohya])
def test_the_adapted_picture_is_diffusers_own(folder, pairs, tmp_path, naming):
    file = tmp_path / "x.safetensors"
    save_file(naming(pairs), file)
    found = edited(folder, Lora(file))
    assert abs(found - expected(folder, file)).max() <= 1
    assert abs(found - edited(folder)).max() > 5


def test_modulation_stays_where_an_adapter_may_change_it(folder, pairs, tmp_path):
    file = tmp_path / "x.safetensors"
    save_file(as_diffusers(pairs), file)
    adapted = open_checkpoint(folder, CPU, loras=(Lora(file),))
    assert adapted.need().ahead == 0 < open_checkpoint(folder, CPU).need().ahead

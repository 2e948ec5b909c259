"""Backends of torch: compiled blocks, and linear layers in float8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints.component import BLOCK_WEIGHTS
from overpaint.checkpoints.compute import float8
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError, UnsupportedOption
from overpaint.core.models import Lora
from tests import tiny_checkpoints
from tests.conftest import box_mask, open_checkpoint, picture

CPU = torch.device("cpu")
HALF = Placement(CPU, torch.bfloat16)


def engine(folder, backend, dtype="float32"):
    settings = Settings(backend=backend, dtype=dtype, device="cpu")
    return build.engine(str(folder), settings=settings)


def edited(engine, **options):
    asked = {"mask": box_mask(64, 64), "seed": 3, "num_inference_steps": 3, **options}
    result = engine.edit(picture(64, 64), "a red cat", **asked)
    return np.asarray(result.images[0]).astype(int), result.recipe["model"]


@pytest.mark.parametrize("options", [{}, {"refresh_every": 2}], ids=["whole", "sparse"])
def test_a_compiled_transformer_gives_torchs_picture_whatever_came_before(
    checkpoint_folder, options
):
    folder = checkpoint_folder("flex2")
    expected, plain = edited(engine(folder, "torch"), **options)
    compiled = engine(folder, "torch-compiled")
    found, recipe = edited(compiled, **options)
    assert np.abs(expected - found).max() <= 1
    assert "backend" not in plain
    assert recipe["backend"] == "torch-compiled"
    graphs = counters["stats"]["unique_graphs"]
    assert graphs
    compiled.edit(
        picture(96, 80), "another", mask=box_mask(96, 80), num_inference_steps=3, **options
    )
    assert counters["stats"]["unique_graphs"] == graphs
    again, _ = edited(compiled, **options)
    assert np.array_equal(found, again)


def test_float8_comes_near(checkpoint_folder):
    folder = checkpoint_folder("flex2")
    expected, _ = edited(engine(folder, "torch", "bfloat16"))
    found, recipe = edited(engine(folder, "torch-float8", "bfloat16"))
    assert 0 < np.abs(expected - found).mean() < 8
    assert recipe["backend"] == "torch-float8"


@pytest.mark.parametrize("family", ["flex2", "kontext", "sd2", "sdxl"])
def test_what_is_float8_is_counted_as_it_is_held(checkpoint_folder, family):
    checkpoint = open_checkpoint(checkpoint_folder(family), HALF, backend=Backend("torch-float8"))
    name = "unet" if family in ("sd2", "sdxl") else "transformer"
    denoiser = checkpoint.component(name)
    assert any(isinstance(each, float8.Float8Linear) for each in denoiser.modules())
    held = sum(
        tensor.nbytes for key, tensor in denoiser.state_dict().items() if not key.endswith("scale")
    )
    assert checkpoint.sizes()[name] == held


def test_norms_modulation_and_ends_keep_their_precision(checkpoint_folder):
    checkpoint = open_checkpoint(checkpoint_folder("flex2"), HALF, backend=Backend("torch-float8"))
    kinds = {
        name: tensor.dtype for name, tensor in checkpoint.component("transformer").named_buffers()
    }
    quantized = {name for name, kind in kinds.items() if kind == torch.float8_e4m3fn}
    assert quantized
    assert not [name for name in quantized if "norm" in name]
    assert all("transformer_blocks" in name for name in quantized)


def test_a_token_does_not_depend_on_those_beside_it():
    torch.manual_seed(0)
    layer = float8.Float8Linear(nn.Linear(64, 48).to(torch.bfloat16))
    tokens = torch.randn(2, 5, 64, dtype=torch.bfloat16)
    louder = tokens.clone()
    louder[:, 1:] *= 1000
    assert torch.equal(layer(tokens)[:, 0], layer(louder)[:, 0])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_error_of_a_layer_is_that_of_float8(scale):
    torch.manual_seed(0)
    linear = nn.Linear(256, 128)
    tokens = scale * torch.randn(3, 7, 256)
    with torch.no_grad():
        expected, found = linear(tokens), float8.Float8Linear(linear)(tokens)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    # Three bits of mantissa: rounded by at most 1/16 of each number, on average far less.
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert torch.isfinite(float8.Float8Linear(linear)(torch.zeros(2, 256))).all()


def quantized_transformer(monkeypatch, *, shared=True):
    """A tiny FLUX transformer in float8, blocks as they come."""
    if not shared:
        monkeypatch.setattr(float8, "SHARED_INPUTS", ())
    torch.manual_seed(0)
    model = tiny_checkpoints.tiny_transformer(64).eval().to(torch.bfloat16)
    float8.quantize(model, CPU, BLOCK_WEIGHTS)
    monkeypatch.undo()
    return model


@torch.inference_mode()
def predicted(model):
    torch.manual_seed(1)
    config = model.config
    return model(
        hidden_states=torch.randn(1, 16, 64, dtype=torch.bfloat16),
        encoder_hidden_states=torch.randn(1, 8, config.joint_attention_dim, dtype=torch.bfloat16),
        pooled_projections=torch.randn(1, config.pooled_projection_dim, dtype=torch.bfloat16),
        timestep=torch.tensor([0.5], dtype=torch.bfloat16),
        guidance=torch.tensor([3.5]) if config.guidance_embeds else None,
        img_ids=torch.zeros(16, 3),
        txt_ids=torch.zeros(8, 3),
        return_dict=False,
    )[0]


def test_tokens_that_several_layers_multiply_are_quantized_once(monkeypatch):
    model, alone = (quantized_transformer(monkeypatch, shared=each) for each in (True, False))
    expected, quantize, shapes = predicted(alone), float8._quantized, []

    def counted(rows):
        shapes.append(tuple(rows.shape))
        return quantize(rows)

    monkeypatch.setattr(float8, "_quantized", counted)
    assert torch.equal(predicted(model), expected)
    double, single = len(model.transformer_blocks), len(model.single_transformer_blocks)
    # Two streams: heads, output, two of the MLP. One stream: heads and MLP together, and output.
    assert len(shapes) == double * 2 * 4 + single * 2
    layers = [each for each in model.modules() if isinstance(each, float8.Float8Linear)]
    assert len(layers) == double * 2 * 6 + single * 5
    assert all(each._input._tokens is None for each in layers)


def test_shared_tokens_compile_without_a_break(monkeypatch):
    model, plain = (quantized_transformer(monkeypatch) for _ in range(2))
    torch._dynamo.reset()
    counters.clear()
    model.compile_repeated_blocks(dynamic=True, backend="eager", fullgraph=True)
    assert torch.equal(predicted(model), predicted(plain))
    graphs = counters["stats"]["unique_graphs"]
    assert torch.equal(predicted(model), predicted(plain))
    assert counters["stats"]["unique_graphs"] == graphs > 0
    assert not counters["graph_break"]
    torch._dynamo.reset()


def test_the_largest_numbers_stay_numbers():
    torch.manual_seed(0)
    rows = torch.randn(512, 64, dtype=torch.bfloat16) * torch.logspace(-6, 6, 512)[:, None]
    values, _ = float8._quantized(rows.to(torch.bfloat16))
    assert torch.isfinite(values.float()).all()
    assert (values.float().abs().amax(dim=1) == float8.LARGEST).all()


def test_no_tokens_are_no_tokens():
    layer = float8.Float8Linear(nn.Linear(64, 48).to(torch.bfloat16))
    assert layer(torch.zeros(1, 0, 64, dtype=torch.bfloat16)).shape == (1, 0, 48)


def test_adapted_denoisers_are_not_quantized(checkpoint_folder, tmp_path):
    loras = (Lora(tmp_path, 1.0),)
    folder = checkpoint_folder("flex2")
    assert (
        open_checkpoint(folder, HALF, loras=loras, backend=Backend("torch-float8")).accelerated
        == []
    )
    compiled = open_checkpoint(folder, HALF, loras=loras, backend=Backend("torch-compiled"))
    assert compiled.accelerated == ["transformer"]


def test_a_card_without_float8_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    with pytest.raises(UnsupportedOption, match=r"A100.*torch-compiled"):
        float8.require(torch.device("cuda"))


def test_other_devices_are_refused():
    with pytest.raises(UnsupportedOption, match="mps"):
        float8.require(torch.device("mps"))


def test_without_a_compiler_the_way_out_is_named(checkpoint_folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    checkpoint = open_checkpoint(checkpoint_folder("sd2"), HALF, backend=Backend("torch-compiled"))
    with pytest.raises(ModelLoadError, match=r"compiler.*backend = \"torch\""):
        checkpoint.component("unet")


def test_a_torch_without_float8_is_refused(monkeypatch):
    monkeypatch.delattr(torch.nn.functional, "scaled_mm")
    with pytest.raises(ModelLoadError, match="torch-compiled"):
        float8.require(CPU)

"""What single files of weights are called by, from their headers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import catalogue
from overpaint.checkpoints.files import foreign
from overpaint.core.errors import ModelLoadError, ModelNotFound

ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("unet.x.lora_A.weight",), "an adapter (LoRA); give it with --lora"),
        (("lora_unet_x.lora_down.weight", "lora_unet_x.alpha"), "an adapter (LoRA)"),
        (
            ("model.diffusion_model.out.2.bias", "first_stage_model.quant_conv.bias"),
            "a whole checkpoint of Stable Diffusion in one file",
        ),
        (
            ("first_stage_model.quant_conv.bias", "conditioner.embedders.0.x"),
            "a whole checkpoint of Stable Diffusion XL in one file",
        ),
        (("double_blocks.0.img_mod.lin.bias",), "the transformer of a FLUX model alone"),
        (("transformer_blocks.0.attn.to_q.weight",), "the weights of one component"),
        (("double_blocks.0.x", "double_blocks.0.scale_input"), "the transformer of a FLUX model"),
        (
            ("a.weight", "a.weight.absmax"),
            "that Overpaint does not know, quantized by another program",
        ),
    ],
)
def test_safetensors(tmp_path, names, said):
    file = tmp_path / "file.safetensors"
    save_file({name: torch.ones(1) for name in names}, file)
    assert said in foreign.description(file)


def test_float8(tmp_path):
    file = tmp_path / "file.safetensors"
    save_file({"double_blocks.0.x.weight": ONE.to(torch.float8_e4m3fn)}, file)
    assert "under its makers' names, in float8; one file holds neither" in foreign.description(file)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.gguf", b"GGUF\3", "quantized as GGUF"),
        ("model.ckpt", b"PK", "a pickle, which can run code"),
        ("photo.png", b"\x89PNG", "a model is a folder"),
    ],
)
def test_other_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in foreign.description(tmp_path / name)


def test_a_damaged_file(tmp_path):
    (tmp_path / "file.safetensors").write_bytes(b"no header")
    with pytest.raises(ModelLoadError, match="not a safetensors file"):
        foreign.description(tmp_path / "file.safetensors")


def test_a_file_that_is_named_as_a_model_is_called_by_what_it_is(tmp_path, monkeypatch):
    file = tmp_path / "style.safetensors"
    save_file({"unet.x.lora_A.weight": ONE}, file)
    monkeypatch.chdir(tmp_path)
    for name in (str(file), "style.safetensors"):
        with pytest.raises(ModelNotFound, match=r"style\.safetensors is an adapter") as caught:
            catalogue.find_model(name, Settings())
        assert caught.value.field == "model"

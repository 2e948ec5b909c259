"""Checkpoints are checked before they are read, and loaded part by part."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.exclusion import LOADING
from overpaint.checkpoints.files import weights
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError
from overpaint.diffusion.autoencoder import AUTOENCODER_KL
from overpaint.families.sd import SD2_FAMILY
from tests.conftest import open_checkpoint

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def folder(checkpoint_folder, tmp_path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint_folder("sd2"), tmp_path / "model"))


def edit_index(folder: Path, **changes) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_components_are_loaded_once_and_only_when_asked(folder):
    checkpoint = open_checkpoint(folder, CPU)
    shutil.rmtree(folder / "text_encoder")
    vae = checkpoint.component("vae")
    assert checkpoint.component("vae") is vae
    assert vae.dtype == torch.float32
    with pytest.raises(ModelLoadError, match="text_encoder"):
        checkpoint.component("text_encoder")


def test_released_components_are_loaded_again(folder):
    checkpoint = open_checkpoint(folder, CPU)
    first = checkpoint.component("text_encoder")
    checkpoint.release("text_encoder")
    assert checkpoint.component("text_encoder") is not first


def test_precision_is_the_placements(folder):
    checkpoint = open_checkpoint(folder, Placement(torch.device("cpu"), torch.bfloat16))
    assert checkpoint.component("unet").dtype == torch.bfloat16
    assert checkpoint.component("text_encoder").dtype == torch.bfloat16


@pytest.mark.parametrize("needed", [True, False])
def test_a_component_that_needs_float32_has_it(folder, needed, tmp_path):
    """Loaded, planned and converted; its configuration says whether it does."""
    vae = folder / "vae" / "config.json"
    vae.write_text(json.dumps(json.loads(vae.read_text()) | {"force_upcast": needed}))
    half = Placement(torch.device("cpu"), torch.bfloat16)
    upcast = replace(AUTOENCODER_KL, float32=lambda config: config["force_upcast"])
    plain, checkpoint = (
        Checkpoint(folder, {**SD2_FAMILY.components, "vae": each}, half, cache=tmp_path / "cache")
        for each in (AUTOENCODER_KL, upcast)
    )
    factor = 2 if needed else 1
    assert checkpoint.component("vae").dtype == (torch.float32 if needed else torch.bfloat16)
    assert checkpoint.component("unet").dtype == torch.bfloat16
    assert checkpoint.sizes() == plain.sizes() | {"vae": factor * plain.sizes()["vae"]}
    assert checkpoint.need().decode == factor * plain.need().decode
    assert checkpoint.need().encode == factor * plain.need().encode
    assert ("vae" in checkpoint.unconverted()) is not needed


def test_weights_read_in_pieces_are_the_librarys(folder, monkeypatch):
    monkeypatch.setattr(weights, "PIECE", 100)
    half = Placement(torch.device("cpu"), torch.bfloat16)
    ours = open_checkpoint(folder, half).component("unet").state_dict()
    theirs = UNet2DConditionModel.from_pretrained(folder / "unet").to(torch.bfloat16).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2", "transformer", "vae"])
def test_components_filled_from_files_are_the_librarys(checkpoint_folder, name):
    where = checkpoint_folder("flex2")
    half = Placement(torch.device("cpu"), torch.bfloat16)
    ours = open_checkpoint(where, half).component(name)
    theirs = type(ours).from_pretrained(where / name).to(torch.bfloat16)
    assert not ours.training
    for found, expected in (
        (dict(ours.named_parameters()), dict(theirs.named_parameters())),
        (dict(ours.named_buffers()), dict(theirs.named_buffers())),
    ):
        assert found.keys() == expected.keys()
        assert all(
            torch.equal(found[each].to(torch.bfloat16), expected[each].to(torch.bfloat16))
            for each in found
        )


def test_sizes_are_those_of_the_loaded_weights(folder):
    checkpoint = open_checkpoint(folder, CPU)
    loaded = sum(4 * weight.numel() for weight in checkpoint.component("unet").parameters())
    assert checkpoint.sizes()["unet"] == loaded
    assert set(checkpoint.sizes()) == {"unet", "vae", "text_encoder"}


def test_the_revision_changes_with_the_weights(folder):
    before = open_checkpoint(folder, CPU).revision()
    assert before == open_checkpoint(folder, CPU).revision()
    save_file({"other": torch.zeros(3)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert before != open_checkpoint(folder, CPU).revision()


def missing_folder(folder):
    shutil.rmtree(folder)


def no_index(folder):
    (folder / "model_index.json").unlink()


def broken_index(folder):
    (folder / "model_index.json").write_text("{")


def index_is_a_list(folder):
    (folder / "model_index.json").write_text("[]")


def foreign_class(folder):
    edit_index(folder, unet=["os", "system"])


def pickles_only(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    file.rename(folder / "unet" / "diffusion_pytorch_model.bin")


def no_weights(folder):
    next((folder / "vae").glob("*.safetensors")).unlink()


def no_component_folder(folder):
    shutil.rmtree(folder / "vae")


def wrong_checksum(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  unet/{file.name}\n")


def listed_file_missing(folder):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  unet/nothing.safetensors\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (missing_folder, "no such folder"),
        (no_index, "model_index.json"),
        (broken_index, "not JSON"),
        (index_is_a_list, "not an object"),
        (foreign_class, "'system'"),
        (pickles_only, "pickles can run code"),
        (no_weights, "no .safetensors"),
        (no_component_folder, "folder is missing"),
        (wrong_checksum, "sha256"),
        (listed_file_missing, "missing"),
    ],
)
def test_a_folder_that_is_not_what_it_claims(folder, damage, says):
    damage(folder)
    with pytest.raises(ModelLoadError, match=says):
        open_checkpoint(folder, CPU)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 16, b"\x08\0\0\0\0\0\0\0{}      ", b"\x00" * 100]
)
def test_broken_weights(folder, content):
    next((folder / "unet").glob("*.safetensors")).write_bytes(content)
    with pytest.raises(ModelLoadError, match="unet"):
        open_checkpoint(folder, CPU).component("unet")


def test_matching_checksums_pass(folder):
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in folder.rglob("*.safetensors")
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    assert "unet" in open_checkpoint(folder, CPU).components


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_not_set_while_another_model_is_made(checkpoint_folder, dtype):
    """Making one changes what setting a parameter does, in the whole process."""
    where = checkpoint_folder("sd2") / "text_encoder"
    with LOADING.alone():
        model = weights.empty(CLIPTextModel, where)
    loading = threading.Thread(
        target=weights.load_into, args=(model, where, dtype, torch.device("cpu")), daemon=True
    )
    with LOADING.alone(), init_empty_weights():
        loading.start()
        loading.join(0.5)
        assert loading.is_alive(), "it has to wait"
    loading.join(60)
    assert not any(each.is_meta for each in model.state_dict().values())


@pytest.mark.parametrize(
    "name",
    [
        "mid_block.attentions.0.proj_in.weight_scale",
        "conv_out.comfy_quant",
        "conv_out.weight.absmax",
        "conv_out.weight.quant_state.bitsandbytes__nf4",
        "conv_out.SCB",
    ],
)
def test_weights_that_another_program_quantized_are_refused_at_once(folder, name):
    [file] = (folder / "unet").glob("*.safetensors")
    save_file({**load_file(file), name: torch.ones(1)}, file)
    with pytest.raises(ModelLoadError, match="full precision"):
        open_checkpoint(folder, CPU)


def test_float8_weights_with_scales_beside_them_are_multiplied(folder):
    """As ComfyUI and others publish float8: weight = stored * scale_weight."""
    [file] = (folder / "unet").glob("*.safetensors")
    plain = load_file(file)
    stored, expected = {}, {}
    for name, weight in plain.items():
        stored[name] = expected[name] = weight
        if name.endswith("to_q.weight"):
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[name.removesuffix("weight") + "scale_weight"] = scale
            expected[name] = stored[name].float() * scale
    save_file(stored, file)
    assert len(stored) > len(plain)
    unet = open_checkpoint(folder, CPU).component("unet")
    for name, weight in unet.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    half = Placement(torch.device("cpu"), torch.bfloat16)
    for name, weight in open_checkpoint(folder, half).component("unet").state_dict().items():
        assert torch.equal(weight, expected[name].to(torch.bfloat16)), name


def test_weights_with_scales_never_go_through_a_loader_that_does_not_know_them(folder):
    [file] = (folder / "unet").glob("*.safetensors")
    weights_ = load_file(file)
    weights_.pop("conv_out.bias")  # a name that is missing: the library's own loader is asked
    save_file({**weights_, "conv_in.scale_weight": torch.ones(())}, file)
    with pytest.raises(ModelLoadError, match="float8 weights with separate scales cannot be read"):
        open_checkpoint(folder, CPU).component("unet")


def test_a_component_that_another_library_quantized_is_refused_by_its_configuration(folder):
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    file.write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"quantized by bitsandbytes.* full precision"):
        open_checkpoint(folder, CPU)


def test_a_component_of_gguf_files_is_refused(folder):
    [file] = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_name("model-Q4_K.gguf"))
    with pytest.raises(ModelLoadError, match=r"model-Q4_K\.gguf, weights .* quantized as GGUF"):
        open_checkpoint(folder, CPU)


def test_weights_that_end_too_early_are_refused_at_once(folder):
    [file] = (folder / "vae").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match="ends too early"):
        open_checkpoint(folder, CPU)

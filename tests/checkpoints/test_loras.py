"""Adapters in the namings that people have, beside diffusers on the same file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    FluxFillPipeline,
    FluxKontextPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
)
from safetensors.torch import load_file, save_file

from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux1 import FILL_FAMILY, KONTEXT_FAMILY
from overpaint.families.sd import SD2_FAMILY, SDXL_FAMILY
from tests.conftest import box_mask, open_checkpoint, picture

CPU = Placement(torch.device("cpu"), torch.float32)
RANK, ALPHA = 2, 8.0
FAMILIES = {
    "sd2": SD2_FAMILY,
    "sdxl": SDXL_FAMILY,
    "fill": FILL_FAMILY,
    "kontext": KONTEXT_FAMILY,
}
PIPELINES = {
    "sd2": StableDiffusionInpaintPipeline,
    "fill": FluxFillPipeline,
    "kontext": FluxKontextPipeline,
}
DENOISERS = {"sd2": "unet", "sdxl": "unet", "fill": "transformer", "kontext": "transformer"}


def linears(model, ends=("to_q", "to_v")) -> dict[str, torch.nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(ends)
    }


def factors(modules, seed=0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down, up) by module, so large that a wrong strength shows."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(RANK, module.in_features, generator=generator) * 0.3,
            torch.randn(module.out_features, RANK, generator=generator) * 0.3,
        )
        for name, module in modules.items()
    }


def component(checkpoint_folder, family, name):
    return open_checkpoint(checkpoint_folder(family), CPU).component(name)


def diffusers_names(pairs, prefix) -> dict[str, torch.Tensor]:
    weights = {}
    for name, (down, up) in pairs.items():
        weights[f"{prefix}.{name}.lora_A.weight"] = down
        weights[f"{prefix}.{name}.lora_B.weight"] = up
    return weights


def kohya_names(pairs, prefix) -> dict[str, torch.Tensor]:
    weights = {}
    for name, (down, up) in pairs.items():
        module = f"{prefix}_{name.replace('.', '_')}"
        weights[f"{module}.lora_down.weight"] = down
        weights[f"{module}.lora_up.weight"] = up
        weights[f"{module}.alpha"] = torch.tensor(ALPHA)
    return weights


@pytest.fixture
def pairs(checkpoint_folder):
    """family → factors for its denoiser."""
    return lambda family: factors(linears(component(checkpoint_folder, family, DENOISERS[family])))


def edit(folder, family, *loras, backend=None, **more):
    checkpoint = open_checkpoint(folder, CPU, loras=loras, backend=backend)
    model = Model(FAMILIES[family].open(checkpoint), checkpoint)
    masked = {} if family == "kontext" else {"mask": box_mask(64, 64)}
    return Engine(lambda _: model, family).edit(
        picture(64, 64), "cat", seed=1, num_inference_steps=2, **masked, **more
    )


def pixels(result) -> np.ndarray:
    return np.asarray(result.images[0], int)


def strengths(model) -> set[float]:
    """Factors with which the adapter layers of a model work."""
    return {
        value
        for module in model.modules()
        for value in (getattr(module, "scaling", None) or {}).values()
    }


def weights_after(folder, family, file) -> dict[str, torch.Tensor]:
    """The denoiser's merged weights in diffusers' own pipeline."""
    pipeline = PIPELINES[family].from_pretrained(str(folder))
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return getattr(pipeline, DENOISERS[family]).state_dict()


def merged(folder, family, file) -> dict[str, torch.Tensor]:
    """The denoiser's merged weights here."""
    checkpoint = open_checkpoint(folder, CPU, loras=(Lora(file),))
    model = checkpoint.component(DENOISERS[family])
    model.fuse_lora()
    model.unload_lora()
    return model.state_dict()


def header(values, prefix) -> dict[str, str]:
    config = {f"{prefix}.{name}": value for name, value in values.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config)}


CONFIG = {"r": RANK, "lora_alpha": ALPHA, "target_modules": ["to_q", "to_v"]}


def as_diffusers(pairs, family, folder) -> Path:
    prefix = DENOISERS[family]
    save_file(diffusers_names(pairs, prefix), folder / "x.safetensors", header(CONFIG, prefix))
    return folder / "x.safetensors"


def as_kohya(pairs, family, folder) -> Path:
    save_file(kohya_names(pairs, "lora_unet"), folder / "x.safetensors")
    return folder / "x.safetensors"


@pytest.mark.parametrize(
    ("family", "naming"),
    [("sd2", as_diffusers), ("sd2", as_kohya), ("kontext", as_diffusers), ("fill", as_diffusers)],
)
def test_weights_are_those_of_diffusers(checkpoint_folder, pairs, tmp_path, family, naming):
    folder = checkpoint_folder(family)
    file = naming(pairs(family), family, tmp_path)
    expected, here = weights_after(folder, family, file), merged(folder, family, file)
    for name, value in expected.items():
        torch.testing.assert_close(here[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["sd2", "kontext"])
def test_alpha_counts_wherever_it_stands(checkpoint_folder, pairs, tmp_path, family):
    """In the header, in PEFT's configuration, or baked into the weights: one picture."""
    folder, chosen, prefix = checkpoint_folder(family), pairs(family), DENOISERS[family]
    baked = {name: (down, up * ALPHA / RANK) for name, (down, up) in chosen.items()}
    save_file(diffusers_names(baked, prefix), tmp_path / "baked.safetensors")
    expected = pixels(edit(folder, family, Lora(tmp_path / "baked.safetensors")))
    peft = tmp_path / "peft"
    peft.mkdir()
    bare = diffusers_names(chosen, "base_model.model")
    save_file(bare, peft / "adapter_model.safetensors")
    (peft / "adapter_config.json").write_text(
        json.dumps({**CONFIG, "peft_type": "LORA", "bias": "none", "unknown": 1})
    )
    for path in (as_diffusers(chosen, family, tmp_path), peft):
        assert abs(pixels(edit(folder, family, Lora(path))) - expected).max() <= 1, path
    assert (pixels(edit(folder, family)) != expected).any()


def test_text_encoders_are_adapted_too(checkpoint_folder, tmp_path):
    encoder = component(checkpoint_folder, "sd2", "text_encoder")
    chosen = factors(linears(encoder, ("q_proj", "v_proj")))
    bare = {name.removeprefix("text_model."): each for name, each in chosen.items()}
    save_file(kohya_names(bare, "lora_te_text_model"), tmp_path / "x.safetensors")
    folder = checkpoint_folder("sd2")
    lora = Lora(tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(folder, CPU, loras=(lora,))
    adapted = checkpoint.component("text_encoder").state_dict()
    for name, (down, up) in chosen.items():
        here = adapted[f"{name}.lora_B.lora_0.weight"] @ adapted[f"{name}.lora_A.lora_0.weight"]
        torch.testing.assert_close(here, up @ down * ALPHA / RANK)
    assert strengths(checkpoint.component("text_encoder")) == {1.0}
    assert (pixels(edit(folder, "sd2", lora)) != pixels(edit(folder, "sd2"))).any()


TEXT_LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
KOHYA_TEXTS = {"text_encoder": "lora_te1_text_model", "text_encoder_2": "lora_te2_text_model"}
PUBLISHERS_BLOCKS = {
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.attentions.0": "middle_block.1",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
}
"""Those of the small SDXL UNet that attend, in the layout of SDXL's own code."""


def sdxl_as_kohya(unet, texts, folder) -> Path:
    """All three networks; the UNet in its publisher's layout, as sd-scripts trains it."""
    parts = {name: name.partition(".transformer_blocks") for name in unet}
    named = {
        PUBLISHERS_BLOCKS[before] + middle + after: unet[name]
        for name, (before, middle, after) in parts.items()
    }
    weights = kohya_names(named, "lora_unet")
    for encoder, chosen in texts.items():
        weights |= kohya_names(chosen, KOHYA_TEXTS[encoder])
    save_file(weights, folder / "x.safetensors")
    return folder / "x.safetensors"


def sdxl_as_diffusers(unet, texts, folder) -> Path:
    weights = diffusers_names(unet, "unet")
    for encoder, chosen in texts.items():
        weights |= diffusers_names(chosen, f"{encoder}.text_model")
    save_file(weights, folder / "x.safetensors")
    return folder / "x.safetensors"


@pytest.mark.parametrize("naming", [sdxl_as_diffusers, sdxl_as_kohya])
def test_all_networks_of_sdxl_are_adapted_as_by_diffusers(
    checkpoint_folder, pairs, tmp_path, naming
):
    folder, texts = checkpoint_folder("sdxl"), {}
    for encoder in KOHYA_TEXTS:
        modules = linears(component(checkpoint_folder, "sdxl", encoder), TEXT_LINEARS)
        texts[encoder] = factors(
            {name.removeprefix("text_model."): each for name, each in modules.items()}
        )
    file = naming(pairs("sdxl"), texts, tmp_path)
    pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.load_lora_weights(str(tmp_path), weight_name=file.name)
    expected = pipeline(
        prompt="cat",
        image=picture(64, 64),
        mask_image=box_mask(64, 64),
        width=64,
        height=64,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    found, plain = (
        edit(folder, "sdxl", *loras, composite=False, window="full") for loras in ([Lora(file)], [])
    )
    assert not found.warnings
    assert abs(pixels(found) - np.asarray(expected, int)).max() <= 1
    assert abs(pixels(plain) - np.asarray(expected, int)).max() > 1


def test_comfyuis_names_are_kohyas_with_dots(checkpoint_folder, tmp_path):
    """Of FLUX in its publisher's own layout, which ComfyUI keeps."""
    width = 128
    weights = {}
    transformer = component(checkpoint_folder, "kontext", "transformer")
    width = transformer.transformer_blocks[0].attn.to_q.in_features
    generator = torch.Generator().manual_seed(0)
    name = "double_blocks.0.img_attn.proj"
    down = torch.randn(RANK, width, generator=generator)
    up = torch.randn(width, RANK, generator=generator)
    weights[f"diffusion_model.{name}.lora_A.weight"] = down
    weights[f"diffusion_model.{name}.lora_B.weight"] = up
    save_file(weights, tmp_path / "comfy.safetensors")
    module = f"lora_unet_{name.replace('.', '_')}"
    save_file(
        {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up},
        tmp_path / "kohya.safetensors",
    )
    folder = checkpoint_folder("kontext")
    comfy, kohya = (
        merged(folder, "kontext", tmp_path / f"{each}.safetensors") for each in ("comfy", "kohya")
    )
    plain = transformer.state_dict()
    place = "transformer_blocks.0.attn.to_out.0.weight"
    torch.testing.assert_close(comfy[place], plain[place] + up @ down, rtol=0, atol=1e-5)
    assert all(torch.equal(comfy[each], kohya[each]) for each in comfy)


def test_scale_weighs_the_adapter(checkpoint_folder, pairs, tmp_path):
    folder, file = checkpoint_folder("sd2"), as_diffusers(pairs("sd2"), "sd2", tmp_path)
    plain = pixels(edit(folder, "sd2"))
    none, half, whole = (pixels(edit(folder, "sd2", Lora(file, scale))) for scale in (0, 0.5, 1))
    assert (none == plain).all()
    assert (half != whole).any()
    assert (half != plain).any()


def test_a_compiled_denoiser_is_adapted_too(checkpoint_folder, pairs, tmp_path):
    folder, file = checkpoint_folder("sd2"), as_diffusers(pairs("sd2"), "sd2", tmp_path)
    expected, compiled = (
        pixels(edit(folder, "sd2", Lora(file), backend=backend))
        for backend in (None, Backend("torch-compiled"))
    )
    assert abs(expected - compiled).max() <= 1


def test_a_file_that_fits_in_part_warns_with_counts(checkpoint_folder, pairs, tmp_path):
    weights = diffusers_names(pairs("sd2"), "unet")
    file = tmp_path / "x.safetensors"
    strange = {f"unet.nowhere.to_q.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    save_file(weights | strange, file)
    result = edit(checkpoint_folder("sd2"), "sd2", Lora(file))
    assert any(
        f"2 of {len(weights) + 2} weights of x.safetensors" in each for each in result.warnings
    )
    save_file(weights, file)
    assert (pixels(edit(checkpoint_folder("sd2"), "sd2", Lora(file))) == pixels(result)).all()


@pytest.mark.parametrize(
    "names",
    [
        ["unet.nowhere.lora_A.weight", "unet.nowhere.lora_B.weight"],
        ["vocoder.x.lora_A.weight", "vocoder.x.lora_B.weight"],
        ["lora_unet_nowhere_at_all.lora_down.weight", "lora_unet_nowhere_at_all.lora_up.weight"],
        ["something", "else"],
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(
    checkpoint_folder, tmp_path, caplog, names
):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ModelLoadError) as refused:
        edit(checkpoint_folder("sd2"), "sd2", Lora(tmp_path / "x.safetensors"))
    assert "x.safetensors" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(caplog.text.splitlines()) <= 1


@pytest.mark.parametrize("name", ["nothing.safetensors", "adapter.bin"])
def test_a_missing_adapter_is_named(checkpoint_folder, tmp_path, name):
    checkpoint = open_checkpoint(checkpoint_folder("sd2"), CPU, loras=(Lora(tmp_path / name),))
    with pytest.raises(ModelLoadError, match=name):
        checkpoint.component("unet")


def test_the_twins_own_weights_are_not_changed_by_reading(checkpoint_folder, pairs, tmp_path):
    file = as_diffusers(pairs("sd2"), "sd2", tmp_path)
    before = load_file(file)
    merged(checkpoint_folder("sd2"), "sd2", file)
    assert all(torch.equal(before[name], value) for name, value in load_file(file).items())

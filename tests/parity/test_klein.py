"""`klein` and `klein-kv` give what diffusers' klein pipelines give on the same checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinKVPipeline, Flux2KleinPipeline
from safetensors.torch import save_file

from overpaint.checkpoints.placement import Placement
from overpaint.core.models import Lora
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux2 import KLEIN_FAMILY, KLEIN_KV_FAMILY
from overpaint.families.flux2.editor import cropped
from tests.conftest import box_mask, open_checkpoint, picture

SIZES = [(96, 80), (101, 75), (64, 130)]
"""Of whole tokens, and with sides that are not."""

REFERENCES = [[], [picture(70, 121, seed=6)], [picture(80, 64, seed=6), picture(99, 66, seed=7)]]
DISTILLED = {"num_inference_steps": 4, "max_sequence_length": 48}
BASE = {"num_inference_steps": 3, "guidance_scale": 4.0, "max_sequence_length": 48}
OPTIONS = {"klein": DISTILLED, "klein_base": BASE, "klein_kv": DISTILLED}
PROMPT = "make it red"


@pytest.fixture(scope="module")
def pipeline(checkpoint_folder):
    """(class, checkpoint) → pipeline, made once."""
    made = {}

    def make(cls, name):
        if (cls, name) not in made:
            made[cls, name] = cls.from_pretrained(checkpoint_folder(name))
            made[cls, name].set_progress_bar_config(disable=True)
        return made[cls, name]

    return make


@pytest.fixture(scope="module")
def engine(checkpoint_folder):
    """checkpoint → engine in float32 on the processor, made once."""
    made = {}

    def make(name, *loras):
        if (name, loras) not in made:
            placement = Placement(torch.device("cpu"), torch.float32)
            checkpoint = open_checkpoint(checkpoint_folder(name), placement, loras=loras)
            family = KLEIN_KV_FAMILY if name == "klein_kv" else KLEIN_FAMILY
            model = Model(family.open(checkpoint), checkpoint)
            made[name, loras] = Engine(lambda _: model, name)
        return made[name, loras]

    return make


def edit(engine, image, size, seed=5, **more):
    width, height = size
    result = engine.edit(
        image, PROMPT, seed=seed, width=width, height=height, composite=False, **more
    )
    return np.asarray(result.images[0])


def expected(pipeline, **more):
    """The pipeline's picture; guidance is what distilled ones only warn of."""
    if not isinstance(pipeline, Flux2KleinKVPipeline):
        more.setdefault("guidance_scale", 1.0)
    generator = torch.Generator().manual_seed(5)
    return np.asarray(pipeline(prompt=PROMPT, generator=generator, **more).images[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("references", REFERENCES, ids=len)
@pytest.mark.parametrize("name", ["klein", "klein_base"])
def test_an_instruction(engine, pipeline, name, references, size):
    # The pipeline crops the picture to whole tokens; here it would be padded.
    image = cropped(picture(*size), 16)
    wanted = expected(
        pipeline(Flux2KleinPipeline, name), image=[picture(*size), *references], **OPTIONS[name]
    )
    found = edit(engine(name), image, image.size, references=references, **OPTIONS[name])
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("references", REFERENCES[:2], ids=len)
@pytest.mark.parametrize(
    ("name", "strength"), [("klein", 1.0), ("klein", 0.6), ("klein_base", 0.6)]
)
def test_with_a_mask(engine, pipeline, name, references, strength, size):
    image, mask = picture(*size), box_mask(*size)
    wanted = expected(
        pipeline(Flux2KleinInpaintPipeline, name),
        image=image,
        mask_image=mask,
        image_reference=references[0] if references else None,
        strength=strength,
        **OPTIONS[name],
    )
    canvas = (size[0] // 16 * 16, size[1] // 16 * 16)
    asked = {"mask": mask, "references": references, "strength": strength}
    assert np.array_equal(edit(engine(name), image, canvas, **asked, **OPTIONS[name]), wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("references", REFERENCES, ids=len)
def test_references_computed_once(engine, pipeline, references, size):
    image = cropped(picture(*size), 16)
    wanted = expected(
        pipeline(Flux2KleinKVPipeline, "klein_kv"), image=[picture(*size), *references], **DISTILLED
    )
    found = edit(engine("klein_kv"), image, image.size, references=references, **DISTILLED)
    assert np.array_equal(found, wanted)


def test_the_defaults_are_the_pipelines_own_for_their_checkpoints(engine, pipeline):
    image = picture(64, 64)
    wanted = expected(pipeline(Flux2KleinPipeline, "klein"), image=image, num_inference_steps=4)
    assert np.array_equal(edit(engine("klein"), image, (64, 64)), wanted)
    wanted = expected(pipeline(Flux2KleinKVPipeline, "klein_kv"), image=image)
    assert np.array_equal(edit(engine("klein_kv"), image, (64, 64)), wanted)


def test_a_negative_prompt_takes_the_place_of_the_empty_one(engine, pipeline):
    image, base = picture(64, 64), pipeline(Flux2KleinPipeline, "klein_base")
    negative, _ = base.encode_prompt("blue", max_sequence_length=48)
    wanted = expected(base, image=image, negative_prompt_embeds=negative, **BASE)
    found = edit(engine("klein_base"), image, (64, 64), negative_prompt="blue", **BASE)
    assert np.array_equal(found, wanted)
    assert not np.array_equal(edit(engine("klein_base"), image, (64, 64), **BASE), wanted)


@pytest.mark.parametrize("words", [20, 60])
def test_a_prompt_that_is_too_long_is_cut_as_there_and_never_in_silence(engine, pipeline, words):
    image, prompt = picture(64, 64), "b" * words
    generator = torch.Generator().manual_seed(5)
    wanted = pipeline(Flux2KleinPipeline, "klein")(
        prompt=prompt, image=image, guidance_scale=1.0, generator=generator, **DISTILLED
    ).images[0]
    result = engine("klein").edit(
        image, prompt, seed=5, width=64, height=64, composite=False, **DISTILLED
    )
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(wanted))
    assert any("60 tokens" in warning for warning in result.warnings) == (words == 60)


@pytest.mark.parametrize("name", ["klein", "klein_base", "klein_kv"])
def test_two_images_in_one_pass_are_as_each_alone(engine, name):
    image = picture(64, 64)
    together = engine(name).edit(
        image, PROMPT, seed=5, num_images=2, width=64, height=64, composite=False, **OPTIONS[name]
    )
    for index in range(2):
        alone = edit(engine(name), image, (64, 64), seed=5 + index, **OPTIONS[name])
        assert np.abs(np.asarray(together.images[index], int) - alone.astype(int)).max() <= 1


LAYERS = {
    "double_blocks.0.img_attn.proj": "transformer_blocks.0.attn.to_out.0",
    "single_blocks.1.linear1": "single_transformer_blocks.1.attn.to_qkv_mlp_proj",
}
"""Layers by the names of the model's authors, and of diffusers."""

NAMINGS = {
    "diffusers": ("transformer.{1}", "lora_A", "lora_B"),
    "ai-toolkit": ("diffusion_model.{0}", "lora_A", "lora_B"),
    "kohya": ("lora_unet_{2}", "lora_down", "lora_up"),
}


def adapter(transformer, naming: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    module, *ends = NAMINGS[naming]
    weights = {}
    for authors, name in LAYERS.items():
        layer = transformer.get_submodule(name)
        prefix = module.format(authors, name, authors.replace(".", "_"))
        shapes = ((2, layer.in_features), (layer.out_features, 2))
        for end, shape in zip(ends, shapes, strict=True):
            weights[f"{prefix}.{end}.weight"] = torch.randn(shape, generator=generator) * 0.3
        if naming == "kohya":
            weights[f"{prefix}.alpha"] = torch.tensor(8.0)
    return weights


@pytest.mark.parametrize(
    ("name", "naming"), [*(("klein", naming) for naming in NAMINGS), ("klein_kv", "diffusers")]
)
def test_with_an_adapter(engine, checkpoint_folder, tmp_path, name, naming):
    cls = Flux2KleinKVPipeline if name == "klein_kv" else Flux2KleinPipeline
    pipeline = cls.from_pretrained(checkpoint_folder(name))
    pipeline.set_progress_bar_config(disable=True)
    file = tmp_path / "adapter.safetensors"
    save_file(adapter(pipeline.transformer, naming), file)
    image = picture(64, 64)
    plain = expected(pipeline, image=image, **DISTILLED)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name)
    wanted = expected(pipeline, image=image, **DISTILLED)
    assert np.array_equal(edit(engine(name, Lora(file)), image, (64, 64), **DISTILLED), wanted)
    assert not np.array_equal(wanted, plain)

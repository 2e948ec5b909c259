"""Real layouts of published repositories, replayed on a local hub.

Contents are tiny or made up; names, classes, null components, shards and files beside are the
repositories'. Each layout says where it is known from. A repository of the catalogue that has none
here fails a test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from transformers import T5EncoderModel

from overpaint.apps.wiring.models import families
from overpaint.apps.wiring.models.segmentation import SEGMENTERS
from overpaint.checkpoints.files import hub
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import BUILTIN, ModelSpec
from tests.checkpoints.files.test_hub import point_client_at
from tests.conftest import box_mask, picture
from tests.hub_server import Hub, serving

NOTHING = [None, None]


@dataclass(frozen=True)
class Layout:
    """A repository as it is published.

    Attributes:
        source: where that is known from.
        index: its `model_index.json`; None = a single model in transformers layout.
        files: that a pull takes, beside the index.
        beside: that it leaves.
        configs: values in components' configurations that tell the model apart.
    """

    source: str
    index: Mapping[str, Any] | None
    files: tuple[str, ...]
    beside: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def contents(self) -> dict[str, bytes]:
        """All files, with next to nothing in them; no two are equal, else one is not fetched."""
        made = {name: f"{{}} {name}".encode() for name in (*self.files, *self.beside)}
        for name in made:
            if name.endswith(".json"):
                made[name] = json.dumps({**self.configs.get(name, {}), "_file": name}).encode()
        if self.index is not None:
            made["model_index.json"] = json.dumps(self.index).encode()
        return made


def shards(stem: str, count: int) -> tuple[str, ...]:
    """Shards of weights, and their list."""
    numbered = (f"{stem}-{i + 1:05}-of-{count:05}.safetensors" for i in range(count))
    return (*numbered, f"{stem}.safetensors.index.json")


CLIP_WORDS = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
T5_WORDS = ("special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json")

FLUX_INDEX = {
    "_diffusers_version": "0.34.0.dev0",
    "feature_extractor": NOTHING,
    "image_encoder": NOTHING,
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def flux(transformer: tuple[str, ...]) -> tuple[str, ...]:
    """Files of a FLUX.1 repository."""
    return (
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_2/config.json",
        *(f"text_encoder_2/{name}" for name in shards("model", 2)),
        *(f"tokenizer/{name}" for name in CLIP_WORDS),
        *(f"tokenizer_2/{name}" for name in T5_WORDS),
        "transformer/config.json",
        *(f"transformer/{name}" for name in transformer),
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    )


PAGES = (".gitattributes", "README.md")
QWEN_WORDS = ("merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json")


def klein(
    name: str,
    transformer: int = 1,
    text: int = 2,
    pipeline: str = "Flux2KleinPipeline",
    **settings: Any,
) -> Layout:
    """A FLUX.2 [klein] repository with so many shards; base models do not say `is_distilled`."""
    stem = "diffusion_pytorch_model"
    weights = shards(stem, transformer) if transformer > 1 else (f"{stem}.safetensors",)
    return Layout(
        "class names of diffusers' pipeline, files and shards of mirrors; not every one was seen",
        {
            "_class_name": pipeline,
            "_diffusers_version": "0.37.0.dev0",
            **settings,
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen3ForCausalLM"],
            "tokenizer": ["transformers", "Qwen2TokenizerFast"],
            "transformer": ["diffusers", "Flux2Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLFlux2"],
        },
        (
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            *(f"text_encoder/{each}" for each in shards("model", text)),
            *(f"tokenizer/{each}" for each in QWEN_WORDS),
            "transformer/config.json",
            *(f"transformer/{each}" for each in weights),
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ),
        (*PAGES, "LICENSE.md", f"flux-2-klein-{name}.safetensors"),
    )


LAYOUTS: dict[str, Layout] = {
    "ostris/Flex.2-preview": Layout(
        "diffusers' AutoPipeline and a published workflow block load it as 'FluxPipeline', which "
        "is what its index says; `pipeline.py` is the author's; the shards' number is a guess",
        {"_class_name": "FluxPipeline", **FLUX_INDEX},
        flux(shards("diffusion_pytorch_model", 2)),
        (*PAGES, "pipeline.py", "Flex.2-preview.safetensors", "assets/flex2.jpg"),
        {"transformer/config.json": {"in_channels": 196, "out_channels": 64}},
    ),
    "sd2-community/stable-diffusion-2-inpainting": Layout(
        "projects that check it name its class, DDIM and these files with their hashes; the rest "
        "is the withdrawn original's, which diffusers' own tests load",
        {
            "_class_name": "StableDiffusionInpaintPipeline",
            "_diffusers_version": "0.8.0",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "requires_safety_checker": False,
            "safety_checker": NOTHING,
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        (
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            *(f"tokenizer/{name}" for name in CLIP_WORDS),
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ),
        (
            *PAGES,
            "512-inpainting-ema.ckpt",
            "512-inpainting-ema.safetensors",
            "feature_extractor/preprocessor_config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ),
        {"unet/config.json": {"in_channels": 9}},
    ),
    "black-forest-labs/FLUX.1-Kontext-dev": Layout(
        "its card's diffusers example, and projects that list its three shards and its single file",
        {"_class_name": "FluxKontextPipeline", **FLUX_INDEX},
        flux(shards("diffusion_pytorch_model", 3)),
        (*PAGES, "LICENSE.md", "ae.safetensors", "flux1-kontext-dev.safetensors", "teaser.png"),
        {"transformer/config.json": {"in_channels": 64, "guidance_embeds": True}},
    ),
    "black-forest-labs/FLUX.1-Fill-dev": Layout(
        "its card's diffusers example; files as its sibling Kontext has them",
        {"_class_name": "FluxFillPipeline", **FLUX_INDEX},
        flux(shards("diffusion_pytorch_model", 3)),
        (*PAGES, "LICENSE.md", "ae.safetensors", "flux1-fill-dev.safetensors"),
        {"transformer/config.json": {"in_channels": 384, "out_channels": 64}},
    ),
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": Layout(
        "its index, and projects that list its files with their hashes",
        {
            "_class_name": "StableDiffusionXLInpaintPipeline",
            "_diffusers_version": "0.21.0.dev0",
            "force_zeros_for_empty_prompt": True,
            "requires_aesthetics_score": False,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        (
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "text_encoder_2/config.json",
            "text_encoder_2/model.safetensors",
            *(f"tokenizer/{name}" for name in CLIP_WORDS),
            *(f"tokenizer_2/{name}" for name in CLIP_WORDS),
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ),
        (
            *PAGES,
            "text_encoder/model.fp16.safetensors",
            "text_encoder_2/model.fp16.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ),
        {"unet/config.json": {"in_channels": 9}},
    ),
    "black-forest-labs/FLUX.2-klein-4B": klein("4b", is_distilled=True),
    "black-forest-labs/FLUX.2-klein-base-4B": klein("base-4b"),
    "black-forest-labs/FLUX.2-klein-9B": klein("9b", 2, 4, is_distilled=True),
    "black-forest-labs/FLUX.2-klein-base-9B": klein("base-9b", 2, 4),
    "black-forest-labs/FLUX.2-klein-9b-kv": klein(
        "9b-kv", 2, 4, pipeline="Flux2KleinKVPipeline", is_distilled=True
    ),
    "Qwen/Qwen-Image-Edit-2511": Layout(
        "class names and shards of its predecessor 2509, which its card says it follows",
        {
            "_class_name": "QwenImageEditPlusPipeline",
            "_diffusers_version": "0.36.0.dev0",
            "processor": ["transformers", "Qwen2VLProcessor"],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
            "tokenizer": ["transformers", "Qwen2Tokenizer"],
            "transformer": ["diffusers", "QwenImageTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLQwenImage"],
        },
        (
            *(f"processor/{name}" for name in QWEN_WORDS),
            "processor/preprocessor_config.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/generation_config.json",
            *(f"text_encoder/{name}" for name in shards("model", 4)),
            *(f"tokenizer/{name}" for name in QWEN_WORDS),
            "transformer/config.json",
            *(f"transformer/{name}" for name in shards("diffusion_pytorch_model", 5)),
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ),
        PAGES,
    ),
    "facebook/sam2.1-hiera-base-plus": Layout(
        "transformers' documentation of SAM 2, and projects that list its files with their hashes",
        None,
        (
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "processor_config.json",
            "video_preprocessor_config.json",
        ),
        (*PAGES, "sam2.1_hiera_base_plus.pt", "sam2.1_hiera_b+.yaml"),
    ),
    "facebook/sam2.1-hiera-large": Layout(
        "as base-plus",
        None,
        (
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "processor_config.json",
            "video_preprocessor_config.json",
        ),
        (*PAGES, "sam2.1_hiera_large.pt", "sam2.1_hiera_l.yaml"),
    ),
    "facebook/sam3": Layout(
        "a project that serves it lists these eight files; its own code loads sam3.pt",
        None,
        (
            "config.json",
            "model.safetensors",
            "processor_config.json",
            "tokenizer.json",
            *CLIP_WORDS,
        ),
        (*PAGES, "LICENSE", "sam3.pt"),
    ),
    "IDEA-Research/grounding-dino-base": Layout(
        "projects that list its files with their hashes",
        None,
        (
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ),
        (*PAGES, "pytorch_model.bin"),
    ),
    "google/owlv2-base-patch16-ensemble": Layout(
        "transformers' documentation of OWLv2; which of its files have vocabularies is a guess",
        None,
        (
            "added_tokens.json",
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            *CLIP_WORDS,
        ),
        (*PAGES, "pytorch_model.bin"),
    ),
}

KNOWN = {spec.location: spec for spec in (*BUILTIN, *SEGMENTERS.values()) if spec.source == "hub"}
REPLAYED = sorted(KNOWN.keys() & LAYOUTS.keys())


@pytest.fixture
def online(monkeypatch) -> Iterator[Hub]:
    """A hub that has nothing yet."""
    with serving(Hub()) as offered:
        point_client_at(offered.url, monkeypatch)
        yield offered


def pull(spec: ModelSpec, cache) -> hub.Pulled:
    if spec in SEGMENTERS.values():
        return hub.pull(spec.location, cache=cache)
    family = families.find(spec.family)
    return hub.pull(
        spec.location, components=family.components, refusal=family.refusal, cache=cache
    )


@pytest.mark.parametrize("repository", sorted(KNOWN))
def test_every_repository_of_the_catalogue_is_replayed(repository):
    assert repository in LAYOUTS, "write its layout down, and where it is known from"


@pytest.mark.parametrize("repository", REPLAYED)
def test_a_pull_takes_what_is_needed_and_nothing_else(online, tmp_path, repository):
    layout = LAYOUTS[repository]
    online.repository, online.files = repository, layout.contents()
    wanted = {*layout.files, *(() if layout.index is None else ("model_index.json",))}
    assert set(pull(KNOWN[repository], tmp_path).files) == wanted
    assert set(online.downloads()) == wanted


@pytest.mark.parametrize("repository", [each for each in REPLAYED if LAYOUTS[each].index])
def test_another_model_in_its_place_is_refused_before_weights(online, tmp_path, repository):
    layout = LAYOUTS[repository]
    index = {**(layout.index or {}), "_class_name": "StableDiffusionPipeline"}
    online.repository = repository
    online.files = {**layout.contents(), "model_index.json": json.dumps(index).encode()}
    with pytest.raises(ModelLoadError, match="this is a StableDiffusionPipeline, not a"):
        pull(KNOWN[repository], tmp_path)
    assert online.downloads() == ["model_index.json"]


def test_a_class_that_models_share_is_told_apart_before_weights(online, tmp_path):
    online.repository = "ostris/Flex.2-preview"
    online.files = LAYOUTS[online.repository].contents()
    online.files["transformer/config.json"] = b'{"in_channels": 64}'  # FLUX.1 itself
    with pytest.raises(ModelLoadError, match=r"in_channels 64, where .*'flex2' has 196"):
        pull(KNOWN[online.repository], tmp_path)
    assert not [name for name in online.downloads() if name.endswith(".safetensors")]


SHARDED = {
    "black-forest-labs/FLUX.1-Fill-dev": {
        "transformer": FluxTransformer2DModel,
        "text_encoder_2": T5EncoderModel,
    },
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": {"unet": UNet2DConditionModel},
}
MORE_BESIDE = (
    "dev_grid.jpg",
    "sd_xl_base_1.0_inpainting_0.1.safetensors",
    "text_encoder_2/pytorch_model.bin",
    "transformer/model.fp16.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors.index.json",
)


@pytest.fixture(params=SHARDED)
def published(request, checkpoint_folder, tmp_path) -> tuple[str, Path]:
    """A repository's name, and a small checkpoint of it whose large components are in shards."""
    tiny = checkpoint_folder(KNOWN[request.param].family)
    folder = Path(shutil.copytree(tiny, tmp_path / "published"))
    for name, cls in SHARDED[request.param].items():
        model = cls.from_pretrained(folder / name)
        shutil.rmtree(folder / name)
        model.save_pretrained(folder / name, max_shard_size="60KB")
        assert len(list((folder / name).glob("*-of-*.safetensors"))) > 1
        assert list((folder / name).glob("*.safetensors.index.json"))
    return request.param, folder


def test_shards_are_pulled_once_and_edit_as_published(online, published, make_engine, tmp_path):
    repository, folder = published
    online.repository = repository
    online.add(folder)
    wanted = {name for name in online.files if not name.startswith("vocabulary")}
    online.files |= dict.fromkeys((*LAYOUTS[repository].beside, *MORE_BESIDE), b"more")
    pulled = pull(KNOWN[repository], tmp_path / "cache")
    assert set(pulled.files) == wanted
    assert set(online.downloads()) <= wanted  # of equal files the client fetches one
    expected, actual = (
        make_engine(KNOWN[repository].family, each).edit(
            picture(64, 64), "a cat", mask=box_mask(64, 64), seed=1, num_inference_steps=2
        )
        for each in (folder, pulled.folder)
    )
    assert np.array_equal(np.asarray(actual.images[0]), np.asarray(expected.images[0]))

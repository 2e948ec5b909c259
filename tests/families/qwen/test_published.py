"""The repository as its publisher lays it out, pulled through the hub's protocol."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import QwenImageTransformer2DModel
from transformers import Qwen2_5_VLForConditionalGeneration

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints.files import hub, layout
from overpaint.core import licences
from overpaint.core.errors import ModelLoadError
from overpaint.families.qwen import COMPONENTS, QWEN_EDIT_FAMILY
from tests.conftest import picture
from tests.hub_server import Hub, point_client_at, serving

SHARDED = {
    "text_encoder": Qwen2_5_VLForConditionalGeneration,
    "transformer": QwenImageTransformer2DModel,
}
BESIDE = {
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "processor/chat_template.jinja": b"{{ messages }}",
    "tokenizer/chat_template.jinja": b"{{ messages }}",
    "text_encoder/pytorch_model.bin": b"pickle",
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"half",
    "transformer/code.py": b"import os",
    "qwen_image_edit_2511_bf16.safetensors": b"all in one file",
}
"""What the family does not read."""

READ_TOO = {
    "processor/video_preprocessor_config.json": b"{}",
    "text_encoder/generation_config.json": b'{"do_sample": true}',
}
"""What is text, and comes along."""


@pytest.fixture
def published(checkpoint_folder, tmp_path) -> Path:
    """Both large networks in shards, the text encoder under its first names."""
    folder = Path(shutil.copytree(checkpoint_folder("qwen-edit"), tmp_path / "published"))
    for name, cls in SHARDED.items():
        network = cls.from_pretrained(folder / name)
        shutil.rmtree(folder / name)
        network.save_pretrained(folder / name, max_shard_size="60KB")
        assert len(list((folder / name).glob("*-of-*.safetensors"))) > 1
    (index,) = (folder / "text_encoder").glob("*.safetensors.index.json")
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    assert {"model.embed_tokens.weight", "visual.merger.mlp.0.weight", "lm_head.weight"} <= set(
        names
    )
    return folder


@pytest.fixture
def served(published, monkeypatch):
    offered = Hub()
    offered.add(published)
    for file in ("processor/chat_template.jinja", "tokenizer/chat_template.jinja"):
        offered.files.pop(file, None)
    offered.files |= READ_TOO
    with serving(offered):
        point_client_at(offered.url, monkeypatch)
        yield offered


def heads(folder: Path) -> set[str]:
    """Shards of the text encoder that hold its head alone, which no edit needs."""
    (index,) = (folder / "text_encoder").glob("*.safetensors.index.json")
    weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    needed = {shard for name, shard in weights.items() if not name.startswith("lm_head")}
    return {f"text_encoder/{shard}" for shard in set(weights.values()) - needed}


def edited(engine) -> np.ndarray:
    return np.asarray(
        engine.edit(picture(64, 64), "red", seed=1, num_inference_steps=2).images[0], int
    )


def test_it_is_pulled_once_and_edits_as_it_was_published(served, published, make_engine, tmp_path):
    wanted = set(served.files) - heads(published)
    served.files |= BESIDE
    pulled = hub.pull("owner/model", cache=tmp_path / "cache", components=COMPONENTS)
    assert heads(published)
    assert set(pulled.files) == wanted
    assert set(served.downloads()) <= wanted  # of equal files the client fetches one
    expected, found = (
        edited(make_engine("qwen-edit", folder)) for folder in (published, pulled.folder)
    )
    assert (found == expected).all()


def test_the_earlier_models_pipeline_is_refused_before_its_weights_are_fetched(served, tmp_path):
    index = json.loads(served.files["model_index.json"])
    index["_class_name"] = "QwenImageEditPipeline"
    served.files["model_index.json"] = json.dumps(index).encode()
    with pytest.raises(ModelLoadError, match="QwenImageEditPipeline"):
        hub.pull(
            "owner/model",
            cache=tmp_path / "cache",
            components=COMPONENTS,
            refusal=QWEN_EDIT_FAMILY.refusal,
        )
    assert not [name for name in served.downloads() if name.endswith(".safetensors")]


@pytest.mark.parametrize("tokenizer", ["Qwen2Tokenizer", "Qwen2TokenizerFast"])
@pytest.mark.parametrize("processor", ["Qwen2VLProcessor", "Qwen2_5_VLProcessor"])
def test_both_names_of_tokenizer_and_processor_are_known(
    published, make_engine, tokenizer, processor
):
    file = published / layout.INDEX
    index = json.loads(file.read_text(encoding="utf-8"))
    index["tokenizer"][-1], index["processor"][-1] = tokenizer, processor
    file.write_text(json.dumps(index), encoding="utf-8")
    checkpoint = make_engine("qwen-edit", published).model().checkpoint
    assert type(checkpoint.component("processor")).__name__ == "PictureProcessor"
    assert checkpoint.component("tokenizer").convert_tokens_to_ids("<|image_pad|>") == 268


def test_the_catalogue_has_it_with_an_open_licence():
    spec = build.find_model("qwen-edit", Settings())
    assert spec.location == "Qwen/Qwen-Image-Edit-2511"
    assert spec.family == "qwen-edit"
    assert licences.find(spec) is licences.APACHE
    assert licences.is_commercial(spec)

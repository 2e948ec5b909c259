"""klein from a hub in its real layout: shards, their index, and other files beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import Qwen3ForCausalLM

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints.files import hub, layout
from overpaint.core.errors import ModelLoadError
from overpaint.families.flux2 import KLEIN_FAMILY, KLEIN_KV_FAMILY
from tests import tiny_checkpoints
from tests.conftest import picture
from tests.hub_server import Hub, point_client_at, serving

SHARDS = 3
UNWANTED = {
    "README.md": b"# FLUX.2 [klein] 4B",
    "LICENSE.md": b"Apache License",
    "flux-2-klein-4b.safetensors": b"the transformer again, as a single file" * 100,
    "flux-2-klein-4b-fp8.safetensors": b"quantized",
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"half",
    "text_encoder/pytorch_model.bin": b"pickle",
    "tokenizer/code.py": b"import os",
}
SHORT = {"max_sequence_length": 48, "num_inference_steps": 1, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As it is published: the text encoder in shards, the tokenizer named as by transformers 4."""
    where = tiny_checkpoints.klein(tmp_path_factory.mktemp("published") / "klein")
    encoder = Qwen3ForCausalLM.from_pretrained(where / "text_encoder")
    (where / "text_encoder" / "model.safetensors").unlink()
    size = sum(each.nbytes for each in encoder.parameters())
    encoder.save_pretrained(where / "text_encoder", max_shard_size=size // SHARDS + 1)
    index = json.loads((where / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "Qwen2TokenizerFast"]
    (where / "model_index.json").write_text(json.dumps(index))
    return where


@pytest.fixture
def server(folder, monkeypatch):
    offered = Hub(files=dict(UNWANTED))
    offered.add(folder)
    with serving(offered):
        point_client_at(offered.url, monkeypatch)
        yield offered


def test_what_was_pulled_edits_as_the_folder_does(server, folder, tmp_path):
    pulled = hub.pull(server.repository, cache=tmp_path, components=KLEIN_FAMILY.components)
    assert not {*UNWANTED} & {*pulled.files, *server.downloads()}
    shards = [name for name in pulled.files if name.startswith("text_encoder/model-0000")]
    assert len(shards) >= SHARDS
    assert "text_encoder/model.safetensors.index.json" in pulled.files
    assert {"tokenizer/tokenizer.json", "transformer/diffusion_pytorch_model.safetensors"} <= {
        *pulled.files
    }
    found, wanted = (
        build.engine(str(where), device="cpu", settings=Settings(dtype="float32")).edit(
            picture(64, 64), "red", **SHORT
        )
        for where in (pulled.folder, folder)
    )
    assert np.array_equal(np.asarray(found.images[0]), np.asarray(wanted.images[0]))


def test_quantized_repositories_are_refused_by_what_they_lack(folder):
    offered = ["model_index.json", "flux-2-klein-4b-fp8.safetensors"]
    index = layout.read_index(folder)
    with pytest.raises(ModelLoadError, match="text_encoder"):
        layout.choose_files("me/klein-fp8", index, offered, KLEIN_FAMILY.components)


@pytest.mark.parametrize(
    ("spec", "pipeline"),
    [(KLEIN_FAMILY, "Flux2KleinKVPipeline"), (KLEIN_KV_FAMILY, "Flux2KleinPipeline")],
)
def test_kv_weights_and_plain_ones_are_not_taken_for_each_other(spec, pipeline):
    assert pipeline in spec.refusal(pipeline, lambda _: {})

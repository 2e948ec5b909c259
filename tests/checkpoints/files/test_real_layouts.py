"""Repositories as publishers lay them out: pulled without what is there twice, and edited with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from transformers import T5EncoderModel

from overpaint.checkpoints.files import hub
from overpaint.families.flux1 import FILL_FAMILY
from overpaint.families.sd import SDXL_FAMILY
from tests.checkpoints.files.test_hub import point_client_at
from tests.conftest import box_mask, picture
from tests.hub_server import Hub, serving

FAMILIES = {"fill": FILL_FAMILY, "sdxl": SDXL_FAMILY}
SHARDED = {
    "fill": {"transformer": FluxTransformer2DModel, "text_encoder_2": T5EncoderModel},
    "sdxl": {"unet": UNet2DConditionModel},
}
TWICE = {
    "fill": ["flux1-fill-dev.safetensors", "ae.safetensors", "transformer/model.fp16.safetensors"],
    "sdxl": [
        "sd_xl_base_1.0_inpainting_0.1.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors.index.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ],
}
BESIDE = ["README.md", "LICENSE.md", "dev_grid.jpg", ".gitattributes"]


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def published(checkpoint_folder, tmp_path, family) -> Path:
    """A checkpoint whose large components are in shards."""
    folder = Path(shutil.copytree(checkpoint_folder(family), tmp_path / "published"))
    for name, cls in SHARDED[family].items():
        model = cls.from_pretrained(folder / name)
        shutil.rmtree(folder / name)
        model.save_pretrained(folder / name, max_shard_size="60KB")
        assert len(list((folder / name).glob("*-of-*.safetensors"))) > 1
        assert list((folder / name).glob("*.safetensors.index.json"))
    return folder


def test_it_is_pulled_once_and_edits_as_it_was_published(
    published, make_engine, tmp_path, family, monkeypatch
):
    served = Hub()
    served.add(published)
    wanted = {name for name in served.files if not name.startswith("vocabulary")}
    served.files |= dict.fromkeys((*TWICE[family], *BESIDE), b"more")
    with serving(served):
        point_client_at(served.url, monkeypatch)
        pulled = hub.pull(
            "owner/model", cache=tmp_path / "cache", components=FAMILIES[family].components
        )
    assert set(pulled.files) == wanted
    assert set(served.downloads()) <= wanted  # of equal files the client fetches one
    expected, found = (
        make_engine(family, folder).edit(
            picture(64, 64), "a cat", mask=box_mask(64, 64), seed=1, num_inference_steps=2
        )
        for folder in (published, pulled.folder)
    )
    assert np.array_equal(np.asarray(found.images[0]), np.asarray(expected.images[0]))

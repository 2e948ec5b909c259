"""Stable Diffusion on OpenVINO: the same pictures, converted once."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch

from overpaint.checkpoints.compute import openvino
from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError
from overpaint.core.models import Lora
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.sd import SD2_FAMILY
from tests.conftest import box_mask, open_checkpoint, picture

pytest.importorskip("openvino")

FLOAT32 = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def checkpoint(checkpoint_folder, cache):
    return open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=Backend("openvino", cache))


@pytest.fixture(scope="module")
def engine(checkpoint):
    return Engine(
        lambda _: Model(SD2_FAMILY.open(checkpoint), checkpoint, record={"name": "sd2"}), "sd2"
    )


@pytest.mark.parametrize("size", [(64, 64), (72, 40), (61, 93)])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_picture_is_torchs(engine, make_engine, size, strength):
    asked = {"mask": box_mask(*size), "seed": 3, "num_inference_steps": 4, "strength": strength}
    expected, found = (
        np.asarray(each.edit(picture(*size), "a red cat", **asked).images[0]).astype(int)
        for each in (make_engine("sd2"), engine)
    )
    assert np.abs(expected - found).max() <= 1


def test_alone_as_beside_others(engine):
    def request(seed):
        return {"mask": box_mask(64, 64), "seed": seed, "num_inference_steps": 3}

    together = engine.edit(picture(64, 64), "cat", num_images=4, **request(5))
    for seed, image in zip(together.seeds, together.images, strict=True):
        alone = engine.edit(picture(64, 64), "cat", **request(seed)).images[0]
        difference = np.asarray(alone).astype(int) - np.asarray(image).astype(int)
        assert np.abs(difference).max() <= 1


def test_it_is_converted_once(checkpoint, checkpoint_folder, cache, monkeypatch):
    checkpoint.component("unet")
    before = sorted(cache.rglob("*.xml"))
    assert before
    monkeypatch.setattr(openvino, "_save", None)
    again = open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=Backend("openvino", cache))
    again.component("unet")
    assert sorted(cache.rglob("*.xml")) == before
    assert not list(cache.rglob("*partial*"))


def test_what_was_compiled_is_kept_and_may_be_lost(checkpoint_folder, cache):
    def prediction():
        backend = Backend("openvino", cache)
        unet = open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=backend).component("unet")
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(1, unet.config.in_channels, 8, 8, generator=generator)
        text = torch.randn(1, 8, unet.config.cross_attention_dim, generator=generator)
        return unet(sample, torch.tensor([1]), encoder_hidden_states=text, return_dict=False)[0]

    first = prediction()
    blobs = list(cache.rglob("compiled/*.blob"))
    assert blobs
    assert torch.equal(prediction(), first)
    for blob in blobs:
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:1000])
    assert torch.equal(prediction(), first)


def test_a_cache_that_cannot_be_written_is_read(checkpoint, checkpoint_folder, cache, monkeypatch):
    checkpoint.component("vae")
    monkeypatch.setattr(openvino.os, "access", lambda *_: False)
    for folder in cache.rglob("compiled"):
        shutil.rmtree(folder)
    backend = Backend("openvino", cache)
    open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=backend).component("vae")
    assert not list(cache.rglob("compiled"))


def test_another_precision_is_another_file(checkpoint_folder, cache):
    half = Placement(torch.device("cpu"), torch.bfloat16)
    count = len(list(cache.rglob("unet.xml")))
    open_checkpoint(checkpoint_folder("sd2"), half, backend=Backend("openvino", cache)).component(
        "unet"
    )
    assert len(list(cache.rglob("unet.xml"))) == count + 1


def test_large_timesteps_are_not_rounded_to_bfloat16(checkpoint_folder, cache):
    half = Placement(torch.device("cpu"), torch.bfloat16)
    folder = checkpoint_folder("sd2")
    exact = open_checkpoint(folder, FLOAT32).component("unet")
    converted = open_checkpoint(folder, half, backend=Backend("openvino", cache)).component("unet")
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, exact.config.in_channels, 8, 8, generator=generator)
    text = torch.randn(1, 8, exact.config.cross_attention_dim, generator=generator)

    def error(timestep):
        with torch.inference_mode():
            expected, found = (
                unet(
                    sample, torch.tensor([timestep]), encoder_hidden_states=text, return_dict=False
                )[0]
                for unet in (exact, converted)
            )
        return float((found - expected).norm() / expected.norm())

    small = error(1)
    assert small < 0.05
    assert max(error(each) for each in (541, 981, 999)) < 2 * small


def test_adapted_networks_and_other_families_stay_with_torch(checkpoint_folder, cache, tmp_path):
    adapted = open_checkpoint(
        checkpoint_folder("sd2"),
        FLOAT32,
        loras=(Lora(tmp_path, 1.0),),
        backend=Backend("openvino", cache),
    )
    assert adapted.accelerated == ["vae"]
    assert open_checkpoint(checkpoint_folder("sd2"), FLOAT32).accelerated == []


def test_without_the_package_the_way_out_is_named(checkpoint_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    lost = open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=Backend("openvino", tmp_path))
    with pytest.raises(ModelLoadError, match=r"overpaint\[openvino\]"):
        lost.component("unet")


def test_int8_is_quantized_once_and_comes_near(checkpoint_folder, make_engine, tmp_path):
    pytest.importorskip("nncf")
    from overpaint.apps.settings import Settings
    from overpaint.apps.wiring.models import build

    settings = Settings(backend="openvino-int8", cache=tmp_path, dtype="float32", device="cpu")
    asked = {"mask": box_mask(64, 64), "seed": 3, "num_inference_steps": 4}
    engine = build.engine(str(checkpoint_folder("sd2")), settings=settings)
    found = engine.edit(picture(64, 64), "a red cat", **asked)
    expected = make_engine("sd2").edit(picture(64, 64), "a red cat", **asked)
    assert found.recipe["model"]["backend"] == "openvino-int8"
    near, far = (np.asarray(each.images[0]).astype(float) for each in (found, expected))
    assert 0 < np.abs(near - far).mean() < 8
    assert len(list(tmp_path.rglob("unet-int8.xml"))) == 1


def test_weights_in_int4_come_near(checkpoint_folder, engine, cache):
    pytest.importorskip("nncf")
    asked = {"mask": box_mask(64, 64), "seed": 3, "num_inference_steps": 4}
    small = open_checkpoint(
        checkpoint_folder("sd2"), FLOAT32, backend=Backend("openvino-int4", cache)
    )
    model = Model(SD2_FAMILY.open(small), small)
    found, expected = (
        np.asarray(each.edit(picture(64, 64), "a red cat", **asked).images[0]).astype(float)
        for each in (Engine(lambda _: model, "sd2"), engine)
    )
    assert 0 < np.abs(found - expected).mean() < 24


def test_without_nncf_the_way_out_is_named(checkpoint_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    lost = open_checkpoint(
        checkpoint_folder("sd2"), FLOAT32, backend=Backend("openvino-int8", tmp_path, list)
    )
    with pytest.raises(ModelLoadError, match=r"overpaint\[int8\]"):
        lost.component("unet")

"""FLUX.2 [klein] on OpenVINO: torch's pictures, and what it cannot keep."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.placement import Placement
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.flux2 import KLEIN_FAMILY
from tests.conftest import box_mask, open_checkpoint, picture

pytest.importorskip("openvino")

FLOAT32, BFLOAT16 = (
    Placement(torch.device("cpu"), dtype) for dtype in (torch.float32, torch.bfloat16)
)
WEIGHTS = "diffusion_pytorch_model.safetensors"
STEPS = {"num_inference_steps": 2, "max_sequence_length": 48}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def engine(checkpoint_folder, cache):
    """backend → engine of the tiny klein in float32, made once."""
    made = {}

    def make(backend):
        if backend not in made:
            checkpoint = open_checkpoint(
                checkpoint_folder("klein"), FLOAT32, backend=Backend(backend, cache)
            )
            model = Model(KLEIN_FAMILY.open(checkpoint), checkpoint)
            made[backend] = Engine(lambda _: model, "klein")
        return made[backend]

    return make


def edited(engine, size, **more):
    result = engine.edit(picture(*size), "make it red", seed=5, composite=False, **STEPS, **more)
    return np.stack([np.asarray(each) for each in result.images]).astype(int)


@pytest.mark.parametrize("size", [(96, 80), (61, 93)])
@pytest.mark.parametrize("references", [[], [picture(70, 121, seed=6)]], ids=len)
def test_the_picture_is_torchs(engine, size, references):
    asked = {"references": references, "mask": box_mask(*size), "strength": 0.6}
    found, expected = (edited(engine(name), size, **asked) for name in ("openvino", "torch"))
    assert np.abs(found - expected).max() <= 1


def test_several_seeds_in_one_pass(engine):
    found, expected = (
        edited(engine(name), (64, 64), num_images=2) for name in ("openvino", "torch")
    )
    assert np.abs(found - expected).max() <= 1


def test_weights_in_bfloat16_are_taken_as_they_are(checkpoint_folder, tmp_path):
    folder = tmp_path / "stored"
    shutil.copytree(checkpoint_folder("klein"), folder)
    for name in ("transformer", "vae"):
        (file,) = (folder / name).glob("*.safetensors")
        save_file({key: each.bfloat16() for key, each in load_file(file).items()}, file)

    def made(backend, placement):
        cache = tmp_path / "converted"
        checkpoint = open_checkpoint(folder, placement, backend=Backend(backend, cache))
        model = Model(KLEIN_FAMILY.open(checkpoint), checkpoint)
        return edited(Engine(lambda _: model, "klein"), (64, 64))

    exact = made("torch", FLOAT32)
    assert np.abs(made("openvino", FLOAT32) - exact).max() <= 1
    half, torchs = (np.abs(made(each, BFLOAT16) - exact).mean() for each in ("openvino", "torch"))
    assert half < 2 * torchs + 1
    assert all(
        file.stat().st_size < 1.2 * (folder / "transformer" / WEIGHTS).stat().st_size
        for file in (tmp_path / "converted").rglob("transformer.bin")
    )


def test_sparse_steps_are_whole_and_the_result_says_so(engine):
    asked = {"mask": box_mask(64, 64), "seed": 5, **STEPS}
    whole = engine("openvino").edit(picture(64, 64), "make it red", **asked)
    sparse = engine("openvino").edit(picture(64, 64), "make it red", preset="fast", **asked)
    assert np.array_equal(np.asarray(whole.images[0]), np.asarray(sparse.images[0]))
    assert not any("refresh_every" in each for each in whole.warnings)
    assert any("refresh_every: 4 has no effect" in each for each in sparse.warnings)


def test_the_kv_weights_keep_their_transformer(checkpoint_folder, cache):
    checkpoint = open_checkpoint(
        checkpoint_folder("klein_kv"), FLOAT32, backend=Backend("openvino", cache)
    )
    assert checkpoint.accelerated == ["vae"]


@pytest.mark.parametrize("bits", [8, 4])
def test_small_weights_take_less_and_come_near(engine, cache, bits):
    pytest.importorskip("nncf")
    small = engine(f"openvino-int{bits}")
    exact = edited(engine("openvino"), (64, 64))
    assert 0 < np.abs(edited(small, (64, 64)) - exact).mean() < {8: 4, 4: 24}[bits]
    sizes = small.model().checkpoint.sizes()
    assert (
        sizes["transformer"] * 32 // bits
        == engine("torch").model().checkpoint.sizes()["transformer"]
    )
    file = next(cache.rglob(f"transformer-w{bits}.bin"))
    assert file.stat().st_size < bits / 24 * (file.parent / "transformer.bin").stat().st_size

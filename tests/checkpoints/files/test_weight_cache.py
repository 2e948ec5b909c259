"""Weights kept in the precision of their use: the same bits, aligned, only while they are valid."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.files import weight_cache, weights
from overpaint.checkpoints.placement import Placement
from overpaint.core.errors import ModelLoadError, OutputError
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.families.sd import SD2_FAMILY
from tests.conftest import box_mask, open_checkpoint, picture

HALF = Placement(torch.device("cpu"), torch.bfloat16)


@pytest.fixture
def folder(checkpoint_folder, tmp_path) -> Path:
    """A checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint_folder("sd2"), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache" / "weights"


def converted(folder: Path, cache: Path, placement: Placement = HALF) -> Checkpoint:
    checkpoint = open_checkpoint(folder, placement, cache=cache)
    for name in checkpoint.unconverted():
        checkpoint.convert(name)
    return checkpoint


def start_of(file: Path) -> int:
    return 8 + len(weights.header(file))


def test_the_picture_is_the_same_byte_for_byte(folder, cache):
    def edited(checkpoint):
        engine = Engine(
            lambda _: Model(SD2_FAMILY.open(checkpoint), checkpoint, record={"name": "x"}), "x"
        )
        asked = {"mask": box_mask(64, 64), "seed": 3, "num_inference_steps": 3}
        return np.asarray(engine.edit(picture(64, 64), "a red cat", **asked).images[0])

    plain = edited(open_checkpoint(folder, HALF))
    checkpoint = converted(folder, cache)
    # Whatever is read now comes from the kept files.
    for file in folder.rglob("*.safetensors"):
        told = file.stat()
        start = start_of(file)
        file.write_bytes(file.read_bytes()[:start] + b"\0" * (told.st_size - start))
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert np.array_equal(edited(checkpoint), plain)


def test_weights_are_the_librarys_and_mapped_where_kernels_want_them(folder, cache):
    checkpoint = converted(folder, cache)
    ours = checkpoint.component("unet")
    theirs = UNet2DConditionModel.from_pretrained(folder / "unet").to(torch.bfloat16).state_dict()
    assert all(torch.equal(each, theirs[name]) for name, each in ours.state_dict().items())
    for weight in ours.parameters():
        assert (
            weight.nbytes % weight_cache.ALIGNMENT
            or weight.data_ptr() % weight_cache.ALIGNMENT == 0
        )
    [file] = weight_cache.find(cache, folder / "unet", torch.bfloat16).glob("*.safetensors")
    assert start_of(file) % weight_cache.ALIGNMENT == 0


def test_shards_become_one_file(folder, cache):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="200KB")
    assert len(weights.files(folder / "unet")) > 1
    checkpoint = converted(folder, cache)
    [file] = weight_cache.find(cache, folder / "unet", torch.bfloat16).glob("*.safetensors")
    assert file.name == "diffusion_pytorch_model.safetensors"
    found = checkpoint.component("unet").state_dict()
    expected = unet.to(torch.bfloat16).state_dict()
    assert all(torch.equal(found[name], each) for name, each in expected.items())


def test_the_librarys_own_loader_reads_them(folder, cache):
    converted(folder, cache)
    where = weight_cache.find(cache, folder / "unet", torch.bfloat16)
    theirs = UNet2DConditionModel.from_pretrained(where, torch_dtype=torch.bfloat16)
    expected = UNet2DConditionModel.from_pretrained(folder / "unet").to(torch.bfloat16)
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name])


def test_only_what_is_converted_at_each_load_is_kept(checkpoint_folder, folder, cache):
    checkpoint = open_checkpoint(folder, HALF, cache=cache)
    assert sorted(checkpoint.unconverted()) == ["text_encoder", "unet", "vae"]
    assert converted(folder, cache).unconverted() == []
    assert (
        open_checkpoint(folder, Placement(torch.device("cpu"), torch.float32)).unconverted() == []
    )
    # The library keeps parts of T5 in float32 where the rest is float16.
    half = Placement(torch.device("cpu"), torch.float16)
    assert "text_encoder_2" not in open_checkpoint(checkpoint_folder("flex2"), half).unconverted()


def test_another_file_or_precision_is_not_taken_for_it(folder, cache):
    converted(folder, cache)
    assert weight_cache.find(cache, folder / "unet", torch.bfloat16)
    assert weight_cache.find(cache, folder / "unet", torch.float16) is None
    [file] = weights.files(folder / "unet")
    os.utime(file, ns=(0, 0))
    assert weight_cache.find(cache, folder / "unet", torch.bfloat16) is None


def test_what_was_not_finished_is_not_there(folder, cache, monkeypatch):
    def full(*_, **__):
        raise OutputError("no space left", field="cache")

    monkeypatch.setattr(weight_cache, "atomic_write", full)
    with pytest.raises(OutputError, match="no space"):
        converted(folder, cache)
    assert all(
        weight_cache.find(cache, folder / name, torch.bfloat16) is None for name in ("unet", "vae")
    )
    assert not list(cache.rglob("*.tmp"))


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot be made"):
        converted(folder, tmp_path / "cache" / "weights")


def test_damaged_weights_are_not_kept(folder, cache):
    [file] = weights.files(folder / "unet")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match="ends too early"):
        converted(folder, cache)
    assert weight_cache.find(cache, folder / "unet", torch.bfloat16) is None


def test_a_missing_configuration_is_named(folder, cache):
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        open_checkpoint(folder, HALF, cache=cache).read_ahead()


def test_adapted_weights_leave_the_kept_ones_alone(folder, cache):
    """Mapped pages are private: what is changed in memory stays there."""
    checkpoint = converted(folder, cache)
    with torch.no_grad():
        next(checkpoint.component("unet").parameters()).add_(1)
    again = open_checkpoint(folder, HALF, cache=cache).component("unet")
    expected = UNet2DConditionModel.from_pretrained(folder / "unet").to(torch.bfloat16)
    assert torch.equal(next(again.parameters()), next(expected.parameters()))


def test_the_header_is_the_formats(folder, cache):
    converted(folder, cache)
    [file] = weight_cache.find(cache, folder / "text_encoder", torch.bfloat16).glob("*.safetensors")
    described = json.loads(weights.header(file))
    assert described.pop("__metadata__") == {"format": "pt"}
    ends = 0
    for entry in sorted(described.values(), key=lambda each: each["data_offsets"]):
        assert entry["data_offsets"][0] == ends
        ends = entry["data_offsets"][1]
    assert file.stat().st_size == start_of(file) + ends

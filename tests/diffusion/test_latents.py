"""Pictures to latents and back, as properties."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from overpaint.apps.wiring.models import build
from overpaint.core.errors import BrokenResult
from overpaint.diffusion import latents
from overpaint.families.flux1 import layout
from tests.conftest import box_mask, picture


@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 5),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
@settings(deadline=None, max_examples=30)
def test_unpack_undoes_pack(batch, channels, rows, columns):
    tensor = torch.randn(batch, channels, 2 * rows, 2 * columns)
    tokens = latents.pack(tensor)
    assert tokens.shape == (batch, rows * columns, 4 * channels)
    assert torch.equal(latents.unpack(tokens, 2 * rows, 2 * columns), tensor)


def test_a_picture_survives_the_way_to_a_tensor_and_back():
    image = picture(31, 17)
    assert latents.picture_from_tensor(latents.picture_tensor(image)).tobytes() == image.tobytes()


def test_values_outside_the_range_are_clamped():
    pixels = torch.tensor([[[[-3.0]], [[0.0]], [[3.0]]]])
    assert np.asarray(latents.picture_from_tensor(pixels)).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_levels_are_rounded_half_to_even(dtype):
    """As NumPy rounded them when that was its work: every bit of every level."""
    halves = (torch.arange(512) / 2).clamp(max=255) / 127.5 - 1
    noise = torch.randn(512, generator=torch.Generator().manual_seed(0))
    pixels = torch.cat([halves, halves, noise]).reshape(1, 3, 16, 32).to(dtype)
    unit = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    expected = (unit * 255).round().astype(np.uint8)
    assert np.array_equal(np.asarray(latents.picture_from_tensor(pixels)), expected)


def test_binarize_counts_one_half_as_repaint():
    mask = latents.mask_tensor(Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)))
    assert latents.binarize(mask).flatten().tolist() == [0, 0, 1, 1]


def test_positions_count_rows_and_columns_of_tokens():
    ids = layout.positions(4, 6, source=1)
    assert ids.shape == (6, 3)
    assert ids[-1].tolist() == [1, 1, 2]


def test_values_that_are_no_numbers_are_no_picture(checkpoint_folder, tmp_path):
    folder = Path(shutil.copytree(checkpoint_folder("sd2"), tmp_path / "model"))
    [file] = (folder / "unet").glob("*.safetensors")
    weights = load_file(file)
    weights["conv_out.weight"][:] = float("nan")
    save_file(weights, file)
    engine = build.engine(str(folder), device="cpu", dtype="float32")
    with pytest.raises(BrokenResult, match="float32"):
        engine.edit(picture(64, 64), "a cat", mask=box_mask(64, 64), num_inference_steps=1)

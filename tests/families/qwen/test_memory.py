"""What the real model takes, and which plan fits which card."""

from __future__ import annotations

import pytest
import torch

from benchmarks import real_size
from benchmarks.performance import memory
from overpaint.checkpoints.placement import GIB, MemoryNeed, Placement, preflight
from overpaint.families.qwen import COMPONENTS
from tests import second_device
from tests.conftest import open_checkpoint


@pytest.fixture(scope="module")
def real() -> dict[str, torch.nn.Module]:
    """The real model's networks, without memory."""
    return real_size.layout("qwen-edit")


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.fixture(scope="module")
def need(real) -> MemoryNeed:
    return memory.need_of(real, COMPONENTS, float8=False)


def test_of_58_gigabytes_27_have_to_stay(real, need):
    whole = 2 * sum(map(count, real.values()))
    text = need.sizes["text_encoder"]
    assert whole / 1e9 == pytest.approx(57.7, abs=0.1)
    assert need.weights / 1e9 == pytest.approx(56.6, abs=0.1)
    assert (need.weights - text) / 1e9 == pytest.approx(41.1, abs=0.1)
    assert (need.weights - text - need.ahead) / 1e9 == pytest.approx(27.5, abs=0.1)


@pytest.mark.parametrize(
    ("card", "tier"),
    [
        (8, "streamed"),
        (12, "streamed"),
        (16, "streamed"),
        (24, "streamed"),
        (32, "modulation out"),
        (48, "text encoders out"),
        (80, "all resident"),
    ],
)
def test_which_plan_fits_which_card(need, card, tier):
    assert preflight("qwen-edit", need, card * GIB - memory.DRIVER).tier == tier


def test_float8_is_for_the_linear_layers_of_blocks(real, need):
    pattern = COMPONENTS["transformer"].float8
    weights = dict(real["transformer"].named_parameters())
    small = {name for name in weights if pattern.search(name)}
    assert len(small) == 60 * (8 + 4)
    assert not [name for name in small if "norm" in name or "mod" in name]
    half = memory.need_of(real, COMPONENTS, float8=True)
    assert (half.weights - half.sizes["text_encoder"] - half.ahead) / 1e9 == pytest.approx(
        14, abs=0.2
    )


def test_blocks_of_both_large_networks_can_visit_a_card(checkpoint_folder):
    with second_device.plugged_in():
        placement = Placement(torch.device("card"), torch.float32)
        checkpoint = open_checkpoint(checkpoint_folder("qwen-edit"), placement)
        blocks = checkpoint.need().blocks
        sizes = {
            name: [
                sum(4 * weight.numel() for weight in block.parameters())
                for block in checkpoint.component(name)
                .get_submodule(COMPONENTS[name].blocks[0])
                .children()
            ]
            for name in blocks
        }
    assert {name: len(each) for name, each in blocks.items()} == {
        "text_encoder": 2,
        "transformer": 2,
    }
    assert blocks["text_encoder"] == sizes["text_encoder"]
    both = blocks["transformer"], sizes["transformer"]
    assert all(less < whole for less, whole in zip(*both, strict=True))


def test_what_is_loaded_is_what_was_planned(checkpoint_folder):
    placement = Placement(torch.device("cpu"), torch.float32)
    checkpoint = open_checkpoint(checkpoint_folder("qwen-edit"), placement)
    sizes = checkpoint.sizes()
    for name, size in sizes.items():
        assert size == 4 * count(checkpoint.component(name)), name
    assert not dict(checkpoint.component("text_encoder").lm_head.named_parameters())

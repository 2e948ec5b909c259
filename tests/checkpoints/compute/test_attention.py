"""The kernel of attention: the table of choices, and that torch is told."""

from __future__ import annotations

import pytest
import torch
from torch.nn import attention as torch_attention

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints.compute import attention
from overpaint.checkpoints.placement import Placement
from tests.conftest import open_checkpoint

FLASH = ("flash", "efficient", "math")
CUDNN = ("cudnn", *FLASH)


@pytest.mark.parametrize(
    ("capability", "cudnn", "head", "recurring", "expected"),
    [
        ((9, 0), 91501, 128, True, CUDNN),
        ((10, 0), 92000, 128, True, CUDNN),
        ((10, 3), 92000, 96, True, CUDNN),
        ((9, 0), 91500, 128, True, FLASH),
        ((9, 0), 0, 128, True, FLASH),
        ((8, 0), 92000, 128, True, FLASH),
        ((8, 9), 92000, 128, True, FLASH),
        ((12, 0), 92000, 128, True, FLASH),
        ((9, 0), 92000, 64, True, FLASH),
        ((9, 0), 92000, 256, True, FLASH),
        ((9, 0), 92000, 128, False, FLASH),
    ],
)
def test_the_kernel_follows_card_library_head_and_shape(
    capability, cudnn, head, recurring, expected
):
    assert attention.order(capability, cudnn, head, recurring=recurring) == expected


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("cudnn", CUDNN),
        ("flash", FLASH),
        ("efficient", ("efficient", "flash", "math")),
        ("math", ("math", "flash", "efficient")),
    ],
)
def test_what_is_asked_for_comes_first_everywhere(first, expected):
    assert attention.order((8, 0), 0, 64, recurring=False, first=first) == expected


def order_now():
    return torch_attention._cur_sdpa_kernel_backends(with_priority=True)


def test_torch_tries_them_in_that_order_and_then_as_before():
    before = order_now()
    with attention.in_order(("math", "flash")):
        inside = order_now()
        with attention.in_order(("math", "flash")):
            assert order_now() == inside
        assert order_now() == inside
    assert inside == [
        torch_attention.SDPBackend.MATH,
        torch_attention.SDPBackend.FLASH_ATTENTION,
    ]
    assert order_now() == before


@pytest.mark.parametrize(
    ("family", "size"), [("sd2", 8), ("sdxl", 8), ("flex2", 16), ("kontext", 16)]
)
def test_the_size_of_a_head_is_the_models(checkpoint_folder, family, size):
    checkpoint = open_checkpoint(
        checkpoint_folder(family), Placement(torch.device("cpu"), torch.float32)
    )
    name = "unet" if family in ("sd2", "sdxl") else "transformer"
    assert attention.head_size(checkpoint.component(name)) == size


def test_nothing_changes_where_there_is_no_cuda():
    before = order_now()
    with attention.ordered(object(), torch.device("cpu"), recurring=True, first="math"):
        assert order_now() == before


@pytest.mark.parametrize(("asked", "recorded"), [("auto", None), ("flash", "flash")])
def test_the_recipe_names_what_was_asked_for(checkpoint_folder, asked, recorded):
    settings = Settings(attention=asked, device="cpu")
    record = build.engine(str(checkpoint_folder("sd2")), settings=settings).model().record
    assert record.get("attention") == recorded

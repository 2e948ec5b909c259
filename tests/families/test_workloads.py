"""Before a model is there, its work is estimated with the sizes that its own plans have."""

from __future__ import annotations

import pytest

from overpaint.apps.wiring.models import families
from overpaint.families.flux1 import flux
from overpaint.families.flux2 import editor
from overpaint.families.qwen import edit
from overpaint.families.sd.sd2 import SD2
from overpaint.families.sd.sdxl import SDXL

FACTOR = 8
"""Pixels along a side of a latent, in all of them."""

SIDES = {
    "sd2": SD2.sample_size * FACTOR,
    "sdxl": SDXL.sample_size * FACTOR,
    **dict.fromkeys(("fill", "flex2", "kontext"), flux.NATIVE.side),
    **dict.fromkeys(("klein", "klein-kv"), editor.SIDE),
    "qwen-edit": edit.SIDE,
    "erase": None,
}


@pytest.mark.parametrize("family", [*families.importable()], ids=lambda family: family.name)
def test_the_own_size_is_the_models(family):
    assert family.workload.native == SIDES[family.name]


@pytest.mark.parametrize("name", ["klein", "klein-kv"])
def test_flux2_chooses_no_larger_canvas_than_its_schedule_is_for(name):
    most = editor.LONGEST * (2 * FACTOR) ** 2
    large = families.find(name).workload.canvas((4000, 3000), None)
    assert most <= large <= 1.01 * most


def test_the_others_choose_up_to_half_more_on_a_side():
    assert families.find("sdxl").workload.canvas((4000, 3000), None) == 1536 * 1536
    assert families.find("sd2").workload.canvas((4000, 3000), None) == 768 * 768
    assert families.find("erase").workload.canvas((4000, 3000), None) == 4000 * 3000

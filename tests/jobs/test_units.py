"""Ids: the same for what makes the same picture, another for all else."""

from __future__ import annotations

import pytest

from overpaint.core.errors import InvalidMask
from overpaint.jobs.units import broken, derive_seed, identify, model_key

RECORD = {
    "name": "house-style",
    "family": "sd2",
    "revision": "abc",
    "dtype": "float32",
    "device": "cpu",
    "loras": [{"path": "ink.safetensors", "scale": 0.8, "sha256": "f00"}],
}


def test_the_order_of_parts_does_not_matter():
    assert identify(a=1, b={"x": 1, "y": 2}) == identify(b={"y": 2, "x": 1}, a=1)
    assert identify(a=1) != identify(a="1")
    assert len(identify()) == 32


@pytest.mark.parametrize(
    "changed",
    [
        {"family": "flex2"},
        {"revision": "abd"},
        {"dtype": "bfloat16"},
        {"loras": []},
        {"loras": [{"path": "ink.safetensors", "scale": 0.9, "sha256": "f00"}]},
        {"loras": [{"path": "ink.safetensors", "scale": 0.8, "sha256": "f01"}]},
    ],
)
def test_other_weights_are_another_model(changed):
    assert model_key(RECORD | changed) != model_key(RECORD)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"device": "cuda:1"},
        {"loras": [{"path": "moved/ink.safetensors", "scale": 0.8, "sha256": "f00"}]},
    ],
)
def test_where_a_model_lies_and_runs_does_not_matter(changed):
    assert model_key(RECORD | changed) == model_key(RECORD)


def test_a_model_without_weights():
    assert model_key({"name": "erase", "family": "erase"})["family"] == "erase"


def test_seeds_are_derived_and_spread():
    seeds = {derive_seed(base, row=row) for base in range(20) for row in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seed(3, row=1) == derive_seed(3, row=1)


def test_a_broken_unit_raises_its_error_when_its_turn_comes():
    unit = broken("a.png", InvalidMask("it is torn", field="mask"))
    with pytest.raises(InvalidMask, match="mask: it is torn"):
        unit.load()

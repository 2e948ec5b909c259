"""The ComfyUI nodes by ComfyUI's contract for nodes, with a real server behind them."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.apps.server.conftest import make_settings, serving  # noqa: F401 - a fixture
from tests.conftest import box_mask, picture

FILE = Path(__file__).parents[2] / "examples" / "comfyui" / "overpaint_nodes.py"
TYPES = {"IMAGE", "MASK", "STRING", "INT"}


@pytest.fixture(scope="module")
def nodes():
    """The module as ComfyUI loads it: from its file."""
    spec = importlib.util.spec_from_file_location("overpaint_nodes", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(make_settings):  # noqa: F811 - the fixture
    with serving(make_settings()) as running:
        yield running


def images(*seeds, side=64) -> torch.Tensor:
    arrays = [np.asarray(picture(side, side, seed=seed), np.float32) / 255 for seed in seeds]
    return torch.from_numpy(np.stack(arrays))


MASK = torch.from_numpy(np.asarray(box_mask(64, 64), np.float32)[np.newaxis] / 255)


def test_what_comfyui_asks_of_a_node(nodes):
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional", "hidden"}
        declared = {**inputs["required"], **inputs.get("optional", {})}
        assert {entry[0] for entry in declared.values()} <= TYPES
        assert set(node.RETURN_TYPES) <= TYPES
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        method = inspect.signature(getattr(node, node.FUNCTION))
        assert set(method.parameters) - {"self"} == set(declared)
        optional = {n for n, each in method.parameters.items() if each.default is not each.empty}
        assert optional == set(inputs.get("optional", {}))


def test_a_batch_is_edited_under_its_mask(nodes, server):
    batch = images(1, 2)
    options = '{"num_inference_steps": 1}'
    edited, warnings = nodes.OverpaintEdit().edit(
        batch, "a red cat", 7, mask=MASK, model="sd2", options=options, server=server.url
    )
    assert edited.shape == batch.shape
    assert edited.dtype == torch.float32
    outside = MASK[0] == 0
    for before, after in zip(batch, edited, strict=True):
        assert torch.equal(before[outside], after[outside])
        assert not torch.equal(before, after)
    assert isinstance(warnings, str)


def test_erase_and_the_address_in_the_environment(nodes, server, monkeypatch):
    monkeypatch.setenv("OVERPAINT_URL", server.url)
    erased, _ = nodes.OverpaintErase().erase(images(1), MASK, 7)
    assert not torch.equal(erased, images(1))


def test_what_the_server_says_reaches_people(nodes, server):
    with pytest.raises(RuntimeError, match="mask: "):
        nodes.OverpaintErase().erase(images(1), torch.zeros(1, 64, 64), 7, server=server.url)
    with pytest.raises(RuntimeError, match="no server answers"):
        nodes.OverpaintErase().erase(images(1), MASK, 7, server="http://127.0.0.1:9")
    with pytest.raises(RuntimeError, match="is not an address"):
        nodes.OverpaintErase().erase(images(1), MASK, 7, server="file:///etc/passwd")

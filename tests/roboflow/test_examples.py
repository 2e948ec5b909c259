"""The workflows of docs/workflows.md run, and are those that the document shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import transformers

from examples.workflow import __main__ as example
from tests.conftest import picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("OVERPAINT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_the_document_shows_the_example():
    text = (ROOT / "docs/workflows.md").read_text(encoding="utf-8")
    shown = re.search(r"```json\n(.*?)```", text, flags=re.DOTALL).group(1)
    file = ROOT / "examples/workflow/erase.json"
    assert json.loads(shown) == json.loads(file.read_text(encoding="utf-8"))


NEEDS_TWINS = pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < 5, reason="the twins are in transformers 5's form"
)


@pytest.mark.parametrize(
    ("name", "more"),
    [("erase", {}), pytest.param("flex2", {"prompt": "a red circle"}, marks=NEEDS_TWINS)],
)
def test_the_examples_run(name, more):
    scene = picture(128, 128)
    scene.paste((220, 30, 30), (40, 40, 80, 80))
    hints = example.Hints(boxes=((36, 36, 84, 84),))
    found = example.predictions(scene, hints, "rocket")
    result = example.run(name, scene, found, **more)
    marked = np.asarray(example.mask(found, scene.size)) > 0
    assert marked.mean() == pytest.approx(40 * 40 / 128**2, rel=0.1)
    assert (np.asarray(result)[:24] == np.asarray(scene)[:24]).all()
    assert (np.asarray(result) != np.asarray(scene)).any()

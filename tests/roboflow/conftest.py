"""Roboflow's own execution engine with Overpaint's plugin; `make test-roboflow` runs this folder.

It needs an environment of its own (scripts/roboflow-venv), so elsewhere nothing is collected.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_checkpoints as checkpoints
from tests.conftest import box_mask, picture

PLUGIN = "overpaint.apps.workflow"
OFFLINE = {
    "OFFLINE_MODE": "True",
    "DISABLE_VERSION_CHECK": "True",
    "TELEMETRY_OPT_OUT": "True",
    "WORKFLOWS_PLUGINS": PLUGIN,
}
SIZE = (96, 80)

collect_ignore_glob = [] if importlib.util.find_spec("inference") else ["test_*.py"]
if not collect_ignore_glob:
    os.environ.update(OFFLINE)


@pytest.fixture(scope="session", autouse=True)
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings whose defaults are tiny random checkpoints in float32."""
    folder = tmp_path_factory.mktemp("overpaint")
    lines = ['device = "cpu"', 'dtype = "float32"']
    lines += ["[defaults]", 'inpaint = "my-flex2"', 'edit = "my-kontext"']
    for name in ("flex2", "sd2", "kontext", "sdxl", "fill", "klein_base", "qwen_edit"):
        getattr(checkpoints, name)(folder / name)
        family = "klein" if name == "klein_base" else name.replace("_", "-")
        lines += [f"[models.my-{name}]", f'family = "{family}"', f'folder = "{name}"']
    file = folder / "overpaint.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    os.environ["OVERPAINT_CONFIG"] = str(file)
    return file


@pytest.fixture(scope="session")
def run() -> Callable[..., list[dict[str, Any]]]:
    """Compile a workflow definition and run it once."""
    from inference.core.workflows.execution_engine.core import ExecutionEngine

    def run(definition: dict[str, Any], **inputs: Any) -> list[dict[str, Any]]:
        engine = ExecutionEngine.init(workflow_definition=definition, init_parameters={})
        return engine.run(runtime_parameters=inputs)

    return run


def bgr(seed: int = 0) -> np.ndarray:
    """A picture as workflows have it."""
    return np.ascontiguousarray(np.asarray(picture(*SIZE, seed=seed))[..., ::-1])


def marked() -> np.ndarray:
    """Where the detection of `predictions` lies: H x W bool."""
    return np.asarray(box_mask(*SIZE, box=(20, 16, 60, 48))) > 0


def predictions(*, name: str = "dog", confidence: float = 0.9, count: int = 1) -> dict[str, Any]:
    """JSON as Roboflow's instance segmentation models answer."""
    one = {
        "x": 40,
        "y": 32,
        "width": 40,
        "height": 32,
        "confidence": confidence,
        "class": name,
        "class_id": 3,
        "points": [{"x": x, "y": y} for x, y in ((20, 16), (59, 16), (59, 47), (20, 47))],
    }
    found = [{**one, "detection_id": f"d{index}"} for index in range(count)]
    return {"image": {"width": SIZE[0], "height": SIZE[1]}, "predictions": found}


def workflow(block: str, *, inputs: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A definition with one block: predictions in, a picture out.

    Args:
        block: such as 'erase'.
        inputs: names of further inputs and their kinds ('' = a parameter).
        fields: of the block.
    """
    declared: list[dict[str, Any]] = [
        {"type": "WorkflowImage", "name": "image"},
        {
            "type": "WorkflowBatchInput",
            "name": "predictions",
            "kind": ["instance_segmentation_prediction"],
        },
    ]
    for name, kind in (inputs or {}).items():
        declared.append({"type": kind or "WorkflowParameter", "name": name})
    step = {
        "type": f"overpaint/{block}@v1",
        "name": "repaint",
        "image": "$inputs.image",
        "segmentation_mask": "$inputs.predictions",
        **fields,
    }
    names = ("image", "seed", "warnings", "recipe")
    return {
        "version": "1.3.0",
        "inputs": declared,
        "steps": [step],
        "outputs": [
            {"type": "JsonField", "name": name, "selector": f"$steps.repaint.{name}"}
            for name in names
        ],
    }

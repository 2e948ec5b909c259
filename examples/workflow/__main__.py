"""Runs the workflows of docs/workflows.md in Roboflow's execution engine and draws its pictures.

Run from the repository's root, in the environment that `make test-roboflow` makes:
`.venv-roboflow-1.8.3/bin/python -m examples.workflow`. The photo is SpaceX's "rocket" (public
domain), which scikit-image carries; the scene is the one bundled with the twins. Predictions come
from GrabCut here, written as Roboflow's segmentation models write theirs.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from overpaint.core.imaging.detections import Detection
from overpaint.segmenters.grabcut import GrabCut
from overpaint.segmenters.segmenter import Hints, Point

HERE = Path(__file__).parent
ROCKET = Hints(boxes=((300, 122, 345, 408),), points=tuple(Point(322, y) for y in (140, 150, 160)))
CIRCLE = Hints(boxes=((12, 15, 58, 61),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="for the pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    photo = rocket()
    found = predictions(photo, ROCKET, "rocket")
    erased = run("erase", photo, found)
    strip(photo, mask(found, photo.size), erased).save(out / "workflow-erase.jpg", quality=85)

    scene = Image.open(str(files("overpaint") / "twins/scene/scene.png")).convert("RGB")
    found = predictions(scene, CIRCLE, "circle")
    painted = run("flex2", scene, found, prompt="a green triangle")
    strip(scene, mask(found, scene.size), painted, scale=2).save(out / "workflow-flex2.png")


def rocket() -> Image.Image:
    """The photo, 640 x 427."""
    from skimage.data import rocket as photo

    return Image.fromarray(photo())


def predictions(picture: Image.Image, hints: Hints, label: str) -> dict[str, Any]:
    """What GrabCut finds, as an instance segmentation model of Roboflow's answers."""
    found = GrabCut().segment(picture, hints)
    return {
        "image": {"width": picture.width, "height": picture.height},
        "predictions": [_prediction(each, label, index) for index, each in enumerate(found)],
    }


def run(name: str, picture: Image.Image, found: dict[str, Any], **parameters: Any) -> Image.Image:
    """Run a workflow definition of this folder on one picture."""
    os.environ.setdefault("WORKFLOWS_PLUGINS", "overpaint.apps.workflow")
    from inference.core.workflows.execution_engine.core import ExecutionEngine

    definition = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    engine = ExecutionEngine.init(workflow_definition=definition, init_parameters={})
    inputs = {"image": np.asarray(picture)[..., ::-1], "predictions": found, **parameters}
    result = engine.run(runtime_parameters=inputs)[0]["image"]
    return Image.fromarray(np.ascontiguousarray(result.numpy_image[..., ::-1]))


def mask(found: dict[str, Any], size: tuple[int, int]) -> Image.Image:
    """The predictions drawn white on black."""
    drawn = np.zeros((size[1], size[0]), np.uint8)
    for each in found["predictions"]:
        points = [(point["x"], point["y"]) for point in each["points"]]
        cv2.fillPoly(drawn, [np.array(points, np.int32)], (255,))
    return Image.fromarray(drawn)


def strip(*pictures: Image.Image, scale: int = 1) -> Image.Image:
    """Pictures side by side."""
    width, height = (side * scale for side in pictures[0].size)
    drawn = Image.new("RGB", (len(pictures) * (width + 8) - 8, height), "white")
    for index, each in enumerate(pictures):
        resized = each.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
        drawn.paste(resized, (index * (width + 8), 0))
    return drawn


def _prediction(detection: Detection, label: str, index: int) -> dict[str, Any]:
    assert detection.mask is not None
    outlines, _ = cv2.findContours(
        detection.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    outline = max(outlines, key=cv2.contourArea)
    left, top, right, bottom = detection.box
    return {
        "x": (left + right) / 2,
        "y": (top + bottom) / 2,
        "width": right - left,
        "height": bottom - top,
        "class": label,
        "class_id": 0,
        "confidence": 0.9,
        "detection_id": str(index),
        "points": [{"x": int(x), "y": int(y)} for x, y in outline.reshape(-1, 2)],
    }


if __name__ == "__main__":
    main()

"""The examples' recipes on the twins: a balanced collection, brighter, named and erased."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks import datasets_eye
from overpaint.apps.cli.commands import app
from tests.datasets.vision_server import serving
from training.world.render import render
from training.world.scene import Scene, Thing

RECIPES = Path(__file__).parents[4] / "examples/recipes"


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures of the twins' world: a star with another thing, and a thing alone."""
    (tmp_path / "overpaint.toml").write_text("dtype = 'float32'\n")
    monkeypatch.setenv("OVERPAINT_CONFIG", str(tmp_path / "overpaint.toml"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    star, ring = (
        Thing("red", "star", 0.3, 0.35, 0.16, 0.0),
        Thing("blue", "circle", 0.7, 0.65, 0.15, 0.0),
    )
    for number, things in enumerate([(star, ring), (ring,)]):
        scene = example_scene(things)
        Image.fromarray(render(scene, 128)).save(folder / f"{number}.png")
    return folder


def example_scene(things: tuple[Thing, ...]) -> Scene:
    from training.world.scene import sample_background, sample_light

    rng = np.random.default_rng(3)
    return Scene(sample_background(rng), sample_light(rng), things, blur=0)


def run(name: str, *words: str) -> dict[str, Any]:
    task = name.partition("-")[0]
    done = CliRunner().invoke(app, [task, str(RECIPES / name), "-o", "out", "--json", *words])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def rows() -> list[dict[str, Any]]:
    lines = Path("out/data/imagefolder/train/metadata.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_balanced_collection(scenes: Path) -> None:
    some = ["axes.colour=[red, blue]", "axes.shape=[circle, star]", "quota=1"]
    steps = "options.num_inference_steps=4"
    told = run("collect-shapes.yaml", *(word for key in (*some, steps) for word in ("--set", key)))
    assert told["missing"] == {}
    cells = Counter((row["axis_colour"], row["axis_shape"]) for row in rows())
    assert set(cells.values()) == {1}
    assert len(cells) == 4


def test_brighter_throughout(scenes: Path) -> None:
    sets = [f"sources.0.folder={scenes}", "options.num_inference_steps=8"]
    told = run("clean-brighter.yaml", *(word for key in sets for word in ("--set", key)))
    assert told["endings"] == {"edited": 2}
    for row in rows():
        before = np.asarray(Image.open(scenes / row["source_name"]).convert("L"), float)
        assert row["brightness"] > before.mean() / 255 + 0.03


def test_named_and_erased(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets_eye, "SHOWN", 3)  # it learns faster, and this is enough here
    eye = datasets_eye.Eye()
    with serving(eye.answer) as server:
        sets = [f"sources.0.folder={scenes}", f"vision.base_url={server.url}"]
        told = run("clean-named.yaml", *(word for key in sets for word in ("--set", key)))
    assert told["endings"] == {"edited": 1, "unchanged": 1}
    made = np.asarray(Image.open("out/data/imagefolder/train/image/000000.png").convert("RGB"))
    assert [each.name for each in eye.look(made)] == ["blue circle"]

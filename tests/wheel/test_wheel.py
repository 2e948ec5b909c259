"""What the built wheel does without the source tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.apps.server.conftest import b64, from_b64
from tests.conftest import box_mask, picture

VENV = Path(os.environ["WHEEL_VENV"])
LARGEST_MB = 60


@pytest.fixture
def desk(tmp_path):
    picture(96, 80).save(tmp_path / "photo.png")
    box_mask(96, 80).save(tmp_path / "mask.png")
    return tmp_path


def environment(desk: Path) -> dict[str, str]:
    """Without this tree, without settings, without pulled models, without a network."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**kept, **offline, "HOME": str(desk), "XDG_CONFIG_HOME": str(desk)}


def overpaint(desk: Path, *arguments: str, **more) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [VENV / "bin" / "overpaint", *arguments],
        cwd=desk,
        env=environment(desk),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def done(desk: Path, *arguments: str) -> str:
    process = overpaint(desk, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_it_is_the_wheel_that_runs(desk):
    code = "import overpaint; print(overpaint.__file__)"
    where = subprocess.run(
        [VENV / "bin" / "python", "-c", code], cwd=desk, env=environment(desk), text=True,
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert Path(where.strip()).is_relative_to(VENV)


def test_erase(desk):
    done(desk, "erase", "photo.png", "--mask", "mask.png")
    before, after = (np.asarray(Image.open(desk / f"{n}.png")) for n in ("photo", "photo-edited"))
    outside = np.asarray(box_mask(96, 80)) == 0
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before, after)


def test_demo(desk):
    done(desk, "demo")
    page = (desk / "overpaint-demo.html").read_text(encoding="utf-8")
    assert page.count("data:image") >= 8


def test_serve(desk):
    process = overpaint(desk, "serve", "--port", "0", "--model", "erase")
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+/", process.stdout.readline())
        assert address is not None
        body = {"image": b64(picture(96, 80)), "mask": b64(box_mask(96, 80)), "model": "erase"}
        with httpx.Client(base_url=address[0], trust_env=False, timeout=60) as client:
            assert "<html" in client.get("/").text
            [edited] = client.post("/v1/edits", json=body).json()["images"]
            assert from_b64(edited).size == (96, 80)
            assert client.get("/openapi.json").status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_what_is_known_of_models_and_tasks(desk):
    models = json.loads(done(desk, "models", "--json"))
    assert any(
        "tiny-sd2" in json.dumps(each)
        for each in (models if isinstance(models, list) else [models])
    )


def test_nothing_of_the_tree_is_missing_and_nothing_more_is_in_it():
    installed = next(VENV.glob("lib/python*/site-packages/overpaint"))
    source = Path(__file__).parents[2] / "src" / "overpaint"

    def files(folder: Path) -> set[str]:
        everything = (each for each in folder.rglob("*") if each.is_file())
        return {
            str(each.relative_to(folder)) for each in everything if "__pycache__" not in each.parts
        }

    assert files(installed) == files(source)
    size = sum(each.stat().st_size for each in installed.rglob("*") if each.suffix != ".pyc")
    assert size < LARGEST_MB * 1e6

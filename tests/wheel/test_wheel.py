"""What the built wheel does without the source tree."""

from __future__ import annotations

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


def done(desk: Path, *arguments: str) -> str:
    """The standard output of a command of the wheel's."""
    process = subprocess.run(
        [VENV / "bin" / arguments[0], *arguments[1:]],
        cwd=desk,
        env=environment(desk),
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_it_is_the_wheel_that_runs(desk):
    where = done(desk, "python", "-c", "import overpaint; print(overpaint.__file__)")
    assert Path(where.strip()).is_relative_to(VENV)


def test_erase(desk):
    done(desk, "overpaint", "erase", "photo.png", "--mask", "mask.png")
    before, after = (np.asarray(Image.open(desk / f"{n}.png")) for n in ("photo", "photo-edited"))
    outside = np.asarray(box_mask(96, 80)) == 0
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before, after)


def test_demo(desk):
    done(desk, "overpaint", "demo")
    page = (desk / "overpaint-demo.html").read_text(encoding="utf-8")
    assert page.count("data:image") >= 8


def test_serve(desk):
    with subprocess.Popen(
        [VENV / "bin" / "overpaint", "serve", "--port", "0", "--model", "erase"],
        cwd=desk,
        env=environment(desk),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+/", process.stdout.readline())
            assert address is not None
            body = {"image": b64(picture(96, 80)), "mask": b64(box_mask(96, 80)), "model": "erase"}
            with httpx.Client(base_url=address[0], trust_env=False, timeout=300) as client:
                page = client.get("/", headers={"accept": "text/html"}).text
                assert "<html" in page
                [edited] = client.post("/v1/edits", json=body).json()["images"]
                assert from_b64(edited).size == (96, 80)
                assert client.get("/openapi.json").status_code == 200
        finally:
            process.terminate()


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

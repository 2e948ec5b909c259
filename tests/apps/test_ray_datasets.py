"""Data sets on Ray: the same files as without, whatever the number of actors, and after a kill.

`make test-ray`, in a venv of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apps.cli.bulk.test_datasets import fingerprint
from tests.datasets.conftest import noisy

pytest.importorskip("ray")

OVERPAINT = [sys.executable, "-m", "overpaint"]


@pytest.fixture
def desk(tmp_path: Path, checkpoint_folder: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(4):
        noisy(number, (64, 64)).save(tmp_path / f"in/{number}.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    recipe = {
        "model": str(checkpoint_folder("sd2")),
        "sources": [{"folder": "in"}],
        "prompt": "a {colour} circle",
        "axes": {"colour": ["red", "blue"]},
        "quota": 6,
        "mask": {"box": [0.2, 0.2, 0.8, 0.8]},
        "options": {"num_inference_steps": 2},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setenv("OVERPAINT_CONFIG", "")
    return tmp_path


def command(out: Path, *flags: str) -> list[str]:
    return [
        *OVERPAINT,
        "collect",
        str(out.parent / "recipe.yaml"),
        "-o",
        str(out),
        "--json",
        *flags,
    ]


def run(out: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(command(out, *flags), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def ids(out: Path) -> list[str]:
    lines = (out / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line)["id"] for line in lines if line]


def test_one_and_two_actors_give_the_files_of_a_local_run(desk: Path) -> None:
    told = run(desk / "local")
    assert told["kept"] == 12
    assert told["left_out"] == {"failed": told["computed"] - 12 - told["surplus"]}
    for actors in ("1", "2"):
        out = desk / f"ray{actors}"
        assert run(out, "--ray", "local", "--actors", actors)["kept"] == 12
        assert fingerprint(out) == fingerprint(desk / "local")
        assert sorted(ids(out)) == sorted(ids(desk / "local"))


def test_killed_on_ray_it_goes_on(desk: Path) -> None:
    run(desk / "local")
    out = desk / "killed"
    flags = ("--ray", "local", "--actors", "2")
    process = subprocess.Popen(command(out, *flags), stdout=subprocess.DEVNULL, process_group=0)
    ledger = out / "ledger.jsonl"
    while process.poll() is None:
        if ledger.exists() and ledger.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(out, *flags)
    assert len(ids(out)) == len(set(ids(out)))
    assert fingerprint(out) == fingerprint(desk / "local")


def test_no_cluster_there(desk: Path) -> None:
    done = subprocess.run(
        command(desk / "out", "--ray", "127.0.0.1:9"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["field"] == "ray"

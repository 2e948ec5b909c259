"""A batch on Ray: the same files as without, whoever is killed.

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

import psutil
import pytest

from benchmarks import batch

pytest.importorskip("ray")

ROWS, BAD, SIZE = 24, 3, 64


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Any) -> Path:
    """A table of rows, a local run of it, and the words of the command."""
    folder = tmp_path_factory.mktemp("batch")
    batch.write_rows(folder / "rows.csv", ROWS, bad=BAD, size=SIZE)
    model = str(checkpoint_folder("sd2"))
    words = ["--model", model, "--dtype", "float32", "-O", "num_inference_steps=1"]
    (folder / "words.json").write_text(json.dumps(words))
    run(folder, "local")
    return folder


def start(desk: Path, out: str, *flags: str) -> subprocess.Popen[bytes]:
    """In a process group of its own, so that all of it can be killed."""
    words = json.loads((desk / "words.json").read_text())
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "overpaint",
            "batch",
            "rows.csv",
            "-o",
            out,
            *words,
            "--json",
            *flags,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        cwd=desk,
        env={**os.environ, "OVERPAINT_CONFIG": ""},
    )


def run(desk: Path, out: str, *flags: str) -> dict[str, Any]:
    return ended(start(desk, out, *flags))


def ended(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    stdout, stderr = process.communicate()
    assert process.returncode == 2, (stdout + stderr).decode()  # some rows are bad
    summary: dict[str, Any] = json.loads(stdout)
    return summary


def ends(out: Path) -> list[str]:
    lines = (out / "ledger.jsonl").read_text().splitlines() if out.exists() else []
    return [json.loads(line)["id"] for line in lines if line]


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "it was over before"
        time.sleep(0.02)


def actors_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [each for each in children if "MapWorker" in "".join(each.cmdline())]


def test_with_an_actor_killed_the_files_are_those_of_a_local_run(desk: Path) -> None:
    process = start(desk, "actor", "--ray", "local", "--actors", "2")
    wait_for(lambda: len(ends(desk / "actor")) >= 1, process)
    victims = actors_of(process)
    assert victims
    victims[0].kill()
    summary = ended(process)
    assert (summary["rows"], summary["failed"]) == (ROWS, BAD)
    assert batch.differences(desk / "local", desk / "actor") == []
    assert sorted(ends(desk / "actor")) == sorted(ends(desk / "local"))


def test_killed_whole_and_started_again_too(desk: Path) -> None:
    process = start(desk, "whole", "--ray", "local", "--actors", "2")
    wait_for(lambda: len(ends(desk / "whole")) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run(desk, "whole", "--ray", "local", "--actors", "2")
    assert len(ends(desk / "whole")) == len(set(ends(desk / "whole"))) == ROWS
    assert batch.differences(desk / "local", desk / "whole") == []

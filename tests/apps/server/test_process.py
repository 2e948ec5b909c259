"""`overpaint serve` as a process of its own: what it refuses to do, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.apps.server.conftest import edit

ENTRY = [sys.executable, "-c", "from overpaint.apps.cli import main; main()"]


@pytest.fixture
def configured(tmp_path, checkpoint_folder):
    """A folder with an `overpaint.toml` that serves the tiny sd2."""
    (tmp_path / "overpaint.toml").write_text(
        f"""
        device = "cpu"
        dtype = "float32"
        [models.sd2]
        family = "sd2"
        folder = {str(checkpoint_folder("sd2"))!r}
        [server]
        models = ["sd2"]
        drain_s = 20
        """,
        encoding="utf-8",
    )
    return tmp_path


def environment(**more) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


@pytest.fixture
def process(configured):
    """A running `overpaint serve` and a client for it."""
    serve = subprocess.Popen(
        [*ENTRY, "serve", "--port", "0"],
        cwd=configured,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    listening = threading.Event()
    url = []

    def read() -> None:
        for line in serve.stderr:
            lines.append(line)
            if not url and '"listening"' in line:
                url.append(json.loads(line)["url"])
                listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert listening.wait(60), lines
    assert serve.stdout.readline() == f"The page is at {url[0]}/\n"
    with httpx.Client(base_url=url[0], trust_env=False, timeout=60) as client:
        end = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield serve, client, lines
    if serve.poll() is None:
        serve.kill()
    serve.wait()
    reader.join(10)
    serve.stderr.close()
    serve.stdout.close()


def accepted(client: httpx.Client) -> float:
    """Edits that wait, are computed or are done."""
    counted = ("overpaint_queue_edits ", "overpaint_images_under_way ", "overpaint_images_total{")
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(counted))


def test_term_under_load_loses_no_accepted_edit(process):
    serve, client, lines = process
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.post, "/v1/edits", json=edit(n, 40)) for n in range(6)]
        later = client.post("/v1/edits", json=edit(9, 60, **{"async": True})).headers["location"]
        end = time.monotonic() + 30
        while accepted(client) < 7:
            assert time.monotonic() < end
        serve.send_signal(signal.SIGTERM)
        end = time.monotonic() + 30
        while client.get("/readyz").json()["status"] != "stopping":
            assert time.monotonic() < end
        assert client.post("/v1/edits", json=edit()).status_code == 503
        assert [each.result().status_code for each in waiting] == [200] * 6
        while (state := client.get(later).json())["status"] != "done":
            assert state["status"] in ("queued", "running")
            time.sleep(0.05)
        assert state["images"]
    assert serve.wait(30) == 0
    parsed = [json.loads(line) for line in lines if line.strip()]
    assert not [line for line in parsed if line["level"] in ("error", "critical")]


def run(folder, *arguments, **variables) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*ENTRY, "serve", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_open_address_needs_keys(configured):
    refused = run(configured, "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "OVERPAINT_API_KEYS" in refused.stderr


def test_short_keys_are_refused(configured):
    refused = run(configured, OVERPAINT_API_KEYS="me:short")
    assert refused.returncode == 2
    assert "16" in refused.stderr


def test_a_model_that_is_not_there_is_named(configured):
    refused = run(configured, "--model", "nope")
    assert refused.returncode == 2
    assert "nope" in refused.stderr


def test_a_checker_that_is_not_there_is_named_before_an_address_is_told(configured, tmp_path):
    (tmp_path / "overpaint.toml").write_text(
        '[[safety.classifiers]]\nfolder = "/not/there"\nlabels = {bad = "sexual"}\n'
    )
    refused = run(tmp_path, "--model", "tiny-sd2", "--port", "0")
    assert refused.returncode == 1
    assert "/not/there: no such folder" in refused.stderr
    assert not refused.stdout


def test_without_a_model_to_serve_the_way_out_is_named(configured, tmp_path):
    (tmp_path / "overpaint.toml").write_text(
        f'cache = "{tmp_path}"\n[defaults]\n'
        + "".join(f'{task} = "sd2"\n' for task in ("inpaint", "edit", "erase", "extend"))
    )
    refused = run(tmp_path, "--port", "0")
    assert refused.returncode == 2
    assert "--model" in refused.stderr

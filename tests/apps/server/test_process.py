"""`overpaint serve` as a process of its own: what it refuses to do, and how it stops."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from overpaint.apps.server import logs, run
from tests.apps.server.conftest import edit
from tests.servers import PATIENCE, serve, serve_sd2, until


@pytest.fixture
def configured(tmp_path, checkpoint_folder):
    """A folder with an `overpaint.toml` that serves the tiny sd2."""
    return serve_sd2(tmp_path, checkpoint_folder("sd2"), drain_s=20)


def accepted(client: httpx.Client) -> float:
    """Edits that wait, are computed or are done."""
    counted = ("overpaint_queue_edits ", "overpaint_images_under_way ", "overpaint_images_total{")
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(counted))


def test_term_under_load_loses_no_accepted_edit(configured):
    with serve(configured) as server, ThreadPoolExecutor(8) as pool:
        client = server.client
        assert server.process.stdout.readline() == f"The page is at {server.url}/\n"
        waiting = [pool.submit(client.post, "/v1/edits", json=edit(n, 20)) for n in range(6)]
        later = client.post("/v1/edits", json=edit(9, 30, **{"async": True})).headers["location"]
        until(lambda: accepted(client) == 7)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/readyz").json()["status"] == "stopping")
        assert client.post("/v1/edits", json=edit()).status_code == 503
        assert [each.result().status_code for each in waiting] == [200] * 6
        while (state := client.get(later).json())["status"] != "done":
            assert state["status"] in ("queued", "running")
            time.sleep(0.05)
        assert state["images"]
        assert server.process.wait(PATIENCE) == 0
        assert not [line for line in server.log() if line["level"] in ("error", "critical")]


@pytest.fixture
def ended(desk, overpaint, checkpoint_folder, monkeypatch):
    """(arguments) → how `overpaint serve` ended before it served; in this process."""
    serve_sd2(desk, checkpoint_folder("sd2"))
    monkeypatch.setattr(logs, "configure", lambda level: None)
    monkeypatch.setattr(run, "_Server", None)  # it does not come so far
    return partial(overpaint, "serve", "--port", 0)


def test_an_open_address_needs_keys(ended):
    refused = ended("--host", "0.0.0.0")
    assert refused.code == 2
    assert "OVERPAINT_API_KEYS" in refused.err


def test_short_keys_are_refused(ended, monkeypatch):
    monkeypatch.setenv("OVERPAINT_API_KEYS", "me:short")
    refused = ended()
    assert refused.code == 2
    assert "16" in refused.err


def test_a_model_that_is_not_there_is_named(ended):
    refused = ended("--model", "nope")
    assert refused.code == 2
    assert "nope" in refused.err


def test_a_checker_that_is_not_there_is_named_before_an_address_is_told(desk, ended):
    (desk / "overpaint.toml").write_text(
        '[[safety.classifiers]]\nfolder = "/not/there"\nlabels = {bad = "sexual"}\n'
    )
    refused = ended("--model", "tiny-sd2")
    assert refused.code == 1
    assert "/not/there: no such folder" in refused.err
    assert not refused.out


def test_without_a_model_to_serve_the_way_out_is_named(desk, ended):
    (desk / "overpaint.toml").write_text(
        f'cache = "{desk}"\n[defaults]\n'
        + "".join(f'{task} = "sd2"\n' for task in ("inpaint", "edit", "erase", "extend"))
    )
    refused = ended()
    assert refused.code == 2
    assert "--model" in refused.err

"""Two replicas on a local Ray; one is killed under load. `make test-ray`, in a venv of its own."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest

from overpaint.apps.settings import ModelSettings, ServerSettings, Settings
from tests.apps.server.conftest import edit, from_b64

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")

PORT = 8643


@pytest.fixture(scope="module")
def client(checkpoint_folder):
    """A client for two replicas behind one address."""
    from overpaint.apps.ray_serve import deployment

    settings = Settings(
        device="cpu",
        dtype="float32",
        models={"sd2": ModelSettings(family="sd2", folder=checkpoint_folder("sd2"))},
        server=ServerSettings(models=("sd2",)),
    )
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(deployment(settings, replicas=2, cpus=0.5), name="overpaint", route_prefix="/")
        url = f"http://127.0.0.1:{PORT}"
        with httpx.Client(base_url=url, trust_env=False, timeout=120) as made:
            yield made
    finally:
        serve.shutdown()
        ray.shutdown()


def replicas() -> list[psutil.Process]:
    """The replicas' processes among this test's own children."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "ServeReplica:overpaint" in _words_of(process)
    ]


def _words_of(process: psutil.Process) -> str:
    """Its command line; '' where it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie, too
        return ""


def until(condition, seconds=120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def ready(client) -> bool:
    return all(client.get("/readyz").status_code == 200 for _ in range(6))


def test_every_replica_gives_the_same_picture(client):
    until(lambda: ready(client))
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/v1/edits", json=edit(5, 3)) for _ in range(8)]
        answers = [each.result() for each in asked]
    assert [answer.status_code for answer in answers] == [200] * 8
    first, *others = (np.asarray(from_b64(answer.json()["images"][0]), int) for answer in answers)
    # Which edits share a pass depends on the moment, and kernels round by its size.
    assert max(np.abs(other - first).max() for other in others) <= 1


def test_what_needs_one_server_is_refused(client):
    later = client.post("/v1/edits", json=edit(**{"async": True}))
    again = client.post("/v1/edits", json=edit(), headers={"idempotency-key": "k"})
    assert [later.status_code, again.status_code] == [400, 400]
    assert later.json()["error"]["field"] == "async"


def test_a_replica_that_dies_under_load_is_replaced(client):
    """Edits that were in it fail and can be sent again; all others are answered."""
    until(lambda: len(replicas()) == 2)

    def persistently(seed) -> int:
        for attempt in range(60):
            try:
                answer = client.post("/v1/edits", json=edit(seed, 30))
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                return attempt
            assert answer.status_code in (429, 500, 502, 503, 504)
            time.sleep(0.5)
        raise AssertionError("never answered")

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(persistently, seed) for seed in range(16)]
        time.sleep(1)
        victim = replicas()[0]
        victim.kill()
        attempts = [each.result() for each in asked]
    assert attempts.count(0) >= 4
    until(lambda: len(replicas()) == 2)
    until(lambda: ready(client))

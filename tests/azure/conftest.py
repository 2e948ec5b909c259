"""Azure ML's and MLflow's own servers; `make test-azure` runs this folder.

They need an environment of their own (scripts/azure-venv), so elsewhere nothing is collected.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import build, catalogue, checkpoints
from tests.conftest import box_mask, picture
from tests.content_safety import content_safety

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "examples" / "azureml" / "code" / "score.py"
MODEL = "tiny-sd2"
SIZE = (128, 128)
STEPS = 4
PROMPTS = ("a red circle", "a blue square")
PICTURES = tuple(picture(*SIZE, seed=seed) for seed in (0, 1))
MASKS = (box_mask(*SIZE), box_mask(*SIZE, (16, 16, 72, 80)))

collect_ignore_glob = [] if importlib.util.find_spec("mlflow") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory):
    """Settings that every process of these tests reads."""
    file = tmp_path_factory.mktemp("settings") / "overpaint.toml"
    file.write_text('device = "cpu"\ndtype = "float32"\n', encoding="utf-8")
    for name in list(os.environ):
        if name.startswith(("OVERPAINT_", "CONTENT_SAFETY_", "AZUREML_")):
            del os.environ[name]
    os.environ |= {"OVERPAINT_CONFIG": str(file), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def model_dir(environment, tmp_path_factory) -> Path:
    """A registered model as Azure ML mounts it: the checkpoint in a folder of its own."""
    folder = tmp_path_factory.mktemp("models") / "stable-diffusion-2-inpainting"
    found = checkpoints.locate(catalogue.find_model(MODEL, settings_.load()), settings_.load())
    folder.symlink_to(found)
    return folder.parent


@pytest.fixture(scope="session")
def expected(environment):
    """(seed) → the engine's own pictures of the two rows."""
    engine = build.engine(MODEL)

    def edited(*seeds: int) -> list:
        return [
            engine.edit(image, prompt, mask=mask, seed=seed, num_inference_steps=STEPS).images[0]
            for image, prompt, mask, seed in zip(PICTURES, PROMPTS, MASKS, seeds, strict=True)
        ]

    return edited


@pytest.fixture
def safe_service(monkeypatch):
    """A local Azure AI Content Safety that the environment names."""
    with content_safety() as service:
        for name, value in service.environ.items():
            monkeypatch.setenv(name, value)
        yield service


@contextmanager
def running(command: list[str], log: Path, *, ready: str):
    """A server in a process of its own; gives a client once `ready` answers 200."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(scripts / command[0]), *command[1:], "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=300
        ) as client:
            _wait(client, ready, process, log)
            yield client
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(client: httpx.Client, path: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))

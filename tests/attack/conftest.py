"""Servers to attack: in this process, and as processes of their own that signals can end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.apps.server.conftest import make_settings, server, start

__all__ = ["make_settings", "server", "start"]

ENTRY = [sys.executable, "-c", "from overpaint.apps.cli import main; main()"]


@dataclass
class Serving:
    """`overpaint serve` as a process of its own."""

    process: subprocess.Popen
    url: str
    client: httpx.Client
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def log(self) -> list[dict]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


@contextmanager
def serve(folder, *arguments, entry=ENTRY, ready=True, **variables):
    """Run the server of a folder's settings until the block ends."""
    process = subprocess.Popen(
        [*entry, "serve", "--port", "0", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines, listening = [], threading.Event()

    def read() -> None:
        for line in process.stderr:
            lines.append(line)
            if '"listening"' in line:
                listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(60), lines
        url = next(json.loads(line)["url"] for line in lines if '"listening"' in line)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            if ready:
                until(lambda: client.get("/readyz").status_code == 200)
            yield Serving(process, url, client, lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(10)
        process.stderr.close()


def until(condition, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def configured(tmp_path, checkpoint_folder):
    """(**server settings) → a folder whose settings serve the tiny sd2, or other models."""

    def configure(**server):
        server = {"models": ["sd2"], **server}
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in server.items())
        (tmp_path / "overpaint.toml").write_text(
            f"""
            device = "cpu"
            dtype = "float32"
            [models.sd2]
            family = "sd2"
            folder = {str(checkpoint_folder("sd2"))!r}
            [server]
            {lines}
            """,
            encoding="utf-8",
        )
        return tmp_path

    return configure

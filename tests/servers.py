"""`overpaint serve` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import BaseServer

import httpx

ENTRY = [sys.executable, "-m", "overpaint"]
PATIENCE = 120
"""Seconds that a server may take to begin or to end, on a busy machine."""


@dataclass(frozen=True)
class Serving:
    """A server that runs.

    Attributes:
        process: it.
        url: its address.
        client: of that address.
        lines: of its log so far.
    """

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    lines: list[str]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def log(self) -> list[dict]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


def environment(**variables: str) -> dict[str, str]:
    """That of a process of a test."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}


@contextmanager
def serve(
    folder: Path,
    *arguments: str,
    entry: Sequence[str] = ENTRY,
    port: int = 0,
    ready: bool = True,
    **variables: str,
) -> Iterator[Serving]:
    """Run the server of a folder's settings until the block ends.

    Args:
        folder: with an `overpaint.toml`.
        arguments: further ones of `overpaint serve`.
        entry: how `overpaint` is started.
        port: 0 = any that is free.
        ready: wait until its models are loaded, not only until it listens.
        variables: of its environment.
    """
    process = subprocess.Popen(
        [*entry, "serve", "--port", str(port), *arguments],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    listening = threading.Event()

    def read() -> None:
        for line in process.stderr or ():
            lines.append(line)
            if '"listening"' in line:
                listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(PATIENCE), lines
        url = next(json.loads(line)["url"] for line in lines if '"listening"' in line)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            if ready:
                until(lambda: client.get("/readyz").status_code == 200, PATIENCE)
            yield Serving(process, url, client, lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(10)
        for stream in (process.stdout, process.stderr):
            stream.close()


@contextmanager
def listening(server: BaseServer) -> Iterator[None]:
    """Let a server of Python's own answer in a thread until the block ends.

    By itself it looks for its end every half second, which many tests would wait for.
    """
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def until(condition, seconds=60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def serve_sd2(folder: Path, checkpoint: Path, rest: str = "", **server: object) -> Path:
    """Write settings into a folder that serve a tiny sd2, or other models.

    Args:
        folder: where.
        checkpoint: of the tiny sd2.
        rest: further sections.
        server: settings of the server; without `models` it serves sd2.

    Returns:
        The folder.
    """
    server = {"models": ["sd2"], **server}
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in server.items())
    (folder / "overpaint.toml").write_text(
        f'device = "cpu"\ndtype = "float32"\n[models.sd2]\nfamily = "sd2"\n'
        f"folder = {str(checkpoint)!r}\n[server]\n{lines}\n{rest}",
        encoding="utf-8",
    )
    return folder

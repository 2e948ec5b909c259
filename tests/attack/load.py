"""Hostile load beside honest clients: `python -m tests.attack.load --seconds 600`.

A server runs in a process of its own. Twenty honest clients make small edits, first alone and then
beside everything that tests/attack sends. What must hold: their P95 is at most twice its quiet
value, none of their edits is lost, memory stays bounded, and the server ends within `drain_s` after
SIGTERM.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tests import tiny_checkpoints
from tests.apps.server.conftest import edit
from tests.attack.conftest import KEYS, blank_png, filled_jpeg, head, header_of, scanned_jpeg

HONEST = 20
PAUSE = 1.0
"""Seconds between two edits of an honest client."""

DRAIN = 20
MOST_MEMORY = 1500
"""MiB that the server may grow by."""

MOST_SLOWDOWN = 2.0

_SERVE = "from overpaint.apps.cli import main; main()"


def settings(folder: Path) -> None:
    """A folder that serves two tiny models to two keys."""
    models = {name: folder / name for name in ("sd2", "flex2")}
    for name, path in models.items():
        getattr(tiny_checkpoints, name)(path)
    lines = ['device = "cpu"', 'dtype = "float32"']
    for name, path in models.items():
        lines += [f"[models.{name}]", f'family = "{name}"', f"folder = {str(path)!r}"]
    lines += ["[server]", 'models = ["sd2", "flex2", "erase"]', f"drain_s = {DRAIN}"]
    lines += ["decode_timeout_s = 2", "write_timeout_s = 3", "keep_results_mb = 64"]
    lines += ["max_megapixel_steps_per_key = 4000", "max_queued_megapixels = 200"]
    lines += ["[server.keys]", *(f'{name} = "{key}"' for name, key in KEYS.items())]
    (folder / "overpaint.toml").write_text("\n".join(lines), encoding="utf-8")


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The server, and its address once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "serve", "--port", "0"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().rsplit(" ", 1)[1].strip().rstrip("/")
    while httpx.get(f"{url}/readyz", trust_env=False).status_code != 200:
        time.sleep(0.2)
    return process, url


class Load:
    """Clients of both kinds.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.ends = threading.Event()
        self.seconds: list[float] = []
        self.lost: list[str] = []
        host, port = url.removeprefix("http://").split(":")
        self.address = (host, int(port))

    def honest(self, number: int) -> None:
        """Small edits, one after another, until the end."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=120) as client:
            while not self.ends.wait(PAUSE * (0.5 + random.random())):
                started = time.monotonic()
                answer = client.post("/v1/edits", json=edit(number), headers=header_of("good"))
                self.seconds.append(time.monotonic() - started)
                if answer.status_code != 200:
                    self.lost.append(f"{answer.status_code} {answer.text[:200]}")

    def hostile(self, attack: Callable[[], None]) -> None:
        """One attack again and again until the end."""
        while not self.ends.is_set():
            try:
                attack()
            except OSError:
                time.sleep(0.05)

    def sent(self, body: dict[str, object], wait: float, key: str | None = "bad") -> None:
        """Send an edit and hang up after so many seconds, without reading."""
        encoded = json.dumps(body).encode()
        with socket.create_connection(self.address, timeout=20) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.sendall(head("/v1/edits", len(encoded), key) + encoded)
            self.ends.wait(wait)

    def attacks(self) -> list[Callable[[], None]]:
        """All of them."""
        filled, scanned, blank = (
            base64.b64encode(each).decode()
            for each in (filled_jpeg(10_000_000), scanned_jpeg(1024, 2000), blank_png(5000, 5000))
        )
        large = {"options": {"width": 2048, "height": 2048, "num_inference_steps": 1}}
        asked = {"options": {"width": 4992, "height": 4992, "num_inference_steps": 1}}
        references = {**edit(model="flex2"), "references": [blank] * 15}

        def open_address() -> None:
            with socket.create_connection(self.address, timeout=20) as wire:
                wire.sendall(head("/ping", 60_000_000) + b"x" * 100_000)
                self.ends.wait(1)

        def silent() -> None:
            with socket.create_connection(self.address, timeout=20):
                self.ends.wait(5)

        return [
            lambda: self.sent({**edit(), "image": filled}, 0.5),
            lambda: self.sent({**edit(), "image": scanned}, 4),
            lambda: self.sent({**edit(), "image": blank}, 4),
            lambda: self.sent(references, 2),
            lambda: self.sent({**edit(), **asked}, 0.5),
            lambda: self.sent({**edit(), **large}, 2),
            lambda: self.sent({**edit(num_images=10, size=512), "async": True}, 2),
            lambda: self.sent(edit(), 1, key=None),
            open_address,
            silent,
        ]


def p95(seconds: list[float]) -> float:
    """Of which one in twenty takes longer."""
    return statistics.quantiles(seconds, n=20)[-1]


def run(load: Load, targets: list[tuple[Callable[..., None], object]], seconds: float) -> None:
    """Let clients work for so many seconds."""
    load.ends.clear()
    threads = [threading.Thread(target=target, args=[given]) for target, given in targets]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    load.ends.set()
    for thread in threads:
        thread.join()


def main() -> int:
    """Run the load and print the figures; 1 = one of them does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        settings(Path(name))
        process, url = serve(Path(name))
        load = Load(url)
        honest: list[tuple[Callable[..., None], object]] = [
            (load.honest, number) for number in range(HONEST)
        ]
        memory = psutil.Process(process.pid)
        run(load, honest, min(60, max(15, seconds / 5)))
        quiet, before = p95(load.seconds), memory.memory_info().rss
        load.seconds.clear()
        most = before
        watching = threading.Event()

        def watch() -> None:
            nonlocal most
            while not watching.wait(0.2):
                most = max(most, memory.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        run(load, [*honest, *((load.hostile, attack) for attack in load.attacks())], seconds)
        watching.set()
        watcher.join()
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        code = process.wait(DRAIN + 30)
        ending, attacked = time.monotonic() - stopped, p95(load.seconds)
        grown = (most - before) / 2**20
    sys.stdout.write(
        f"honest edits: {len(load.seconds)}, lost: {len(load.lost)} {load.lost[:3]}\n"
        f"P95 quiet {quiet:.2f} s, attacked {attacked:.2f} s: {attacked / quiet:.2f} times\n"
        f"memory grew by {grown:.0f} MiB at most; ended with {code} after {ending:.1f} s\n"
    )
    holds = (
        not load.lost
        and attacked <= MOST_SLOWDOWN * quiet
        and grown <= MOST_MEMORY
        and (code, ending <= DRAIN) == (0, True)
    )
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())

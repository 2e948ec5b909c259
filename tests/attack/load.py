"""Hostile load beside honest clients: `python -m tests.attack.load --seconds 600`.

A server runs in a process of its own. Twenty honest clients make small edits, first alone and then
beside everything that tests/attack sends. What must hold: their P95 is at most twice its quiet
value, none of their edits is lost, memory stays bounded, and the server ends within `drain_s` after
SIGTERM.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
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
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil

from tests import tiny_checkpoints
from tests.apps.server.conftest import edit
from tests.attack.conftest import KEYS, blank_png, filled_jpeg, head, header_of, scanned_jpeg

HONEST = 20
PAUSE = 1.0
"""Seconds between two edits of an honest client."""

STEPS = 2
"""Of each of them."""

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


class Honest:
    """Clients that make small edits, one after another.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.seconds: list[float] = []
        self.stages: list[dict[str, float]] = []
        self.lost: list[str] = []

    def forget(self) -> None:
        """Begin to count anew; what was lost stays lost."""
        self.seconds.clear()
        self.stages.clear()

    def where(self) -> str:
        """The mean seconds of an edit's stages, as its answer says; the rest is around them."""
        names = sorted(self.stages[0])
        means = {name: statistics.mean(each[name] for each in self.stages) for name in names}
        means["around"] = statistics.mean(self.seconds) - means["total"]
        return ", ".join(f"{name} {seconds:.3f}" for name, seconds in means.items())

    def work(self, seconds: float) -> None:
        """Let all clients work for so many seconds."""
        ends = threading.Event()
        run = [threading.Thread(target=self._client, args=[each, ends]) for each in range(HONEST)]
        for thread in run:
            thread.start()
        time.sleep(seconds)
        ends.set()
        for thread in run:
            thread.join()

    def _client(self, number: int, ends: threading.Event) -> None:
        body = json.dumps(edit(number, steps=STEPS)).encode()
        headers = {**header_of("good"), "content-type": "application/json"}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=120) as client:
            while not ends.wait(PAUSE * (0.5 + random.random())):
                started = time.monotonic()
                answer = client.post("/v1/edits", content=body, headers=headers)
                self.seconds.append(time.monotonic() - started)
                if answer.status_code == 200:
                    self.stages.append(answer.json()["timings"])
                else:
                    self.lost.append(f"{answer.status_code} {answer.text[:200]}")


class Hostile:
    """Strangers with one key, and without any, who begin again and again.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.address = (host, int(port))
        self.ends = threading.Event()
        self.begun: Counter[str] = Counter()

    def attacks(self) -> dict[str, Callable[[], None]]:
        """All of them, by name. Bodies are encoded once: the load is the server's, not ours."""
        filled, scanned, blank = (
            base64.b64encode(each).decode()
            for each in (filled_jpeg(10_000_000), scanned_jpeg(1024, 2000), blank_png(5000, 5000))
        )
        large = {"options": {"width": 2048, "height": 2048, "num_inference_steps": 1}}
        asked = {"options": {"width": 4992, "height": 4992, "num_inference_steps": 1}}
        many = {**edit(num_images=10, size=512), "async": True}
        small = {**edit(steps=50), "async": True}
        bodies: dict[str, tuple[dict[str, object], float, str | None]] = {
            "filled JPEG": ({**edit(), "image": filled}, 0.5, "bad"),
            "JPEG of many scans": ({**edit(), "image": scanned}, 4, "bad"),
            "blank PNG of 25 megapixels": ({**edit(), "image": blank}, 4, "bad"),
            "15 references": ({**edit(model="flex2"), "references": [blank] * 15}, 2, "bad"),
            "canvas beyond the limit": ({**edit(), **asked}, 0.5, "bad"),
            "canvas at the limit": ({**edit(), **large}, 2, "bad"),
            "ten images": (many, 2, "bad"),
            "small edits, never fetched": (small, 0.2, "bad"),
            "no key": (edit(), 1, None),
        }
        sending = {name: partial(self._send, *each) for name, each in encoded(bodies).items()}
        return {**sending, "body to an open address": self._open_address, "silence": self._silent}

    def repeat(self, name: str, attack: Callable[[], None]) -> None:
        """One attack again and again until the end."""
        while not self.ends.is_set():
            self.begun[name] += 1
            try:
                attack()
            except OSError:
                time.sleep(0.05)

    def _send(self, request: bytes, wait: float) -> None:
        """Send a request and hang up after so many seconds, without reading."""
        with socket.create_connection(self.address, timeout=20) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.sendall(request)
            self.ends.wait(wait)

    def _open_address(self) -> None:
        self._send(head("/ping", 60_000_000) + b"x" * 100_000, 1)

    def _silent(self) -> None:
        self._send(b"", 5)


def encoded(
    bodies: dict[str, tuple[dict[str, object], float, str | None]],
) -> dict[str, tuple[bytes, float]]:
    """Requests as they go over the wire, and the seconds after which their senders hang up."""
    requests = {}
    for name, (body, wait, key) in bodies.items():
        data = json.dumps(body).encode()
        requests[name] = (head("/v1/edits", len(data), key) + data, wait)
    return requests


def attack(url: str) -> None:
    """Attack from the first line of the standard input until it ends."""
    hostile = Hostile(url)
    attacks = hostile.attacks()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    threads = [threading.Thread(target=hostile.repeat, args=each) for each in attacks.items()]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    hostile.ends.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(hostile.begun))


class Attackers:
    """The hostile clients, in a process of their own: honest ones are not slowed by its work."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.load", "--attack", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def begin(self) -> None:
        """Let them attack."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> str:
        """Have them stop; what they sent."""
        return self._process.communicate()[0]


class Watch:
    """The memory of a process and its children, at most, within the block."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.before = self.most = self._bytes()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def grown_mb(self) -> float:
        """MiB beyond what it had at the beginning."""
        return (self.most - self.before) / 2**20

    def _bytes(self) -> int:
        sizes = 0
        for each in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes += each.memory_info().rss
        return sizes

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            self.most = max(self.most, self._bytes())


def p95(seconds: list[float]) -> float:
    """Of which one in twenty takes longer."""
    return statistics.quantiles(seconds, n=20)[-1]


def measure(folder: Path, seconds: float) -> bool:
    """Run the load and print the figures; whether all that must hold does."""
    settings(folder)
    process, url = serve(folder)
    honest, attackers = Honest(url), Attackers(url)
    honest.work(5)  # the first edits are slower
    honest.forget()
    honest.work(min(30, max(10, seconds / 5)))
    quiet, calm = p95(honest.seconds), len(honest.seconds)
    sys.stdout.write(f"mean seconds, quiet: {honest.where()}\n")
    honest.forget()
    attackers.begin()
    with Watch(process.pid) as memory:
        honest.work(seconds)
    sent = attackers.end()
    process.send_signal(signal.SIGTERM)
    stopped = time.monotonic()
    code = process.wait(DRAIN + 30)
    ending, attacked = time.monotonic() - stopped, p95(honest.seconds)
    sys.stdout.write(
        f"honest edits: {calm} quiet, {len(honest.seconds)} attacked, "
        f"lost: {len(honest.lost)} {honest.lost[:3]}\n"
        f"P95 quiet {quiet:.2f} s, attacked {attacked:.2f} s: {attacked / quiet:.2f} times; "
        f"median {statistics.median(honest.seconds):.2f} s attacked\n"
        f"mean seconds, attacked: {honest.where()}\n"
        f"memory grew by {memory.grown_mb:.0f} MiB at most; "
        f"ended with {code} after {ending:.1f} s\n"
        f"hostile requests: {sent}\n"
    )
    return (
        not honest.lost
        and attacked <= MOST_SLOWDOWN * quiet
        and memory.grown_mb <= MOST_MEMORY
        and (code, ending <= DRAIN) == (0, True)
    )


def main() -> int:
    """Run the load; 1 = something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--attack", metavar="URL", help="be the hostile clients")
    arguments = parser.parse_args()
    if arguments.attack is not None:
        attack(arguments.attack)
        return 0
    with tempfile.TemporaryDirectory() as name:
        return 0 if measure(Path(name), arguments.seconds) else 1


if __name__ == "__main__":
    raise SystemExit(main())

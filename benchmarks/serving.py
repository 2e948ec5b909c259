"""Overpaint's server beside a diffusers pipeline behind FastAPI, on the same checkpoint.

    python -m benchmarks.serving              # twins: fairness, first step, overhead (minutes)
    python -m benchmarks.serving --throughput # twins: 16 clients, with torch and with OpenVINO
    python -m benchmarks.serving --real-size  # stable-diffusion-2's size, random weights
    python -m benchmarks.serving --soak 600   # ten minutes of load; memory at start and end

Both servers run as processes of their own on loopback and get the same requests in turns, so that
a busy machine slows both; ratios are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import itertools
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks import report

LONG, SHORT = 30, 4
LONG_CLIENTS, LONG_EACH, SHORTS = 4, 3, 20
SHORT_LOAD = 0.3
"""Share of the peer's time that the short edits alone would take."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    url: str

    async def edit(self, client: httpx.AsyncClient, body: dict[str, Any]) -> float:
        """Seconds of one edit, as its caller sees them."""
        started = time.perf_counter()
        answer = await client.post(f"{self.url}/v1/edits", json=body)
        answer.raise_for_status()
        return time.perf_counter() - started

    def metric(self, name: str) -> float:
        """A number of the server's metrics."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(line.rsplit(" ", 1)[1])


@contextmanager
def running(
    name: str, command: list[str], port: int, environment: dict[str, str]
) -> Iterator[Server]:
    """A server process, until the block ends."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    server = Server(name, f"http://127.0.0.1:{port}")
    try:
        for _ in range(3000):
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with {process.returncode}")
            try:
                if httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait()


@contextmanager
def ours(folder: Path, dtype: str, threads: int, backend: str = "torch") -> Iterator[Server]:
    """`overpaint serve` with the checkpoint."""
    port = free_port()
    with tempfile.TemporaryDirectory() as place:
        settings = Path(place) / "overpaint.toml"
        settings.write_text(
            f'device = "cpu"\ndtype = "{dtype}"\nbackend = "{backend}"\n'
            '[models.bench]\nfamily = "sd2"\n'
            f'folder = "{folder}"\n[server]\nmodels = ["bench"]\ntimeout_s = 3600\n',
            encoding="utf-8",
        )
        command = [
            *(sys.executable, "-c", "from overpaint.apps.cli import main; main()"),
            *("serve", "--port", str(port), "--log-level", "warning"),
        ]
        environment = {"OVERPAINT_CONFIG": str(settings), "OMP_NUM_THREADS": str(threads)}
        with running("overpaint", command, port, environment) as server:
            yield server


@contextmanager
def peer(folder: Path, dtype: str, threads: int) -> Iterator[Server]:
    """The diffusers pipeline with a lock and a thread."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving_peer", str(folder), str(port), dtype]
    with running("diffusers", command, port, {"OMP_NUM_THREADS": str(threads)}) as server:
        yield server


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def body(side: int, steps: int, seed: int) -> dict[str, Any]:
    """A masked edit of a whole picture, so that both compute the same canvas."""
    picture = Image.effect_noise((side, side), 60).convert("RGB")
    mask = Image.new("L", (side, side), 0)
    mask.paste(255, (0, 0, side, side * 3 // 4))
    return {
        "image": encoded(picture),
        "mask": encoded(mask),
        "prompt": "a red circle",
        "seed": seed,
        "options": {"num_inference_steps": steps},
    }


def encoded(image: Image.Image) -> str:
    """base64 of a PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


async def alone(server: Server, side: int, steps: int, times: int = 3) -> float:
    """Median seconds of an edit with nothing beside it."""
    async with client() as http:
        return statistics.median(
            [await server.edit(http, body(side, steps, seed)) for seed in range(times)]
        )


def client() -> httpx.AsyncClient:
    """A client without limits of its own."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(trust_env=False, timeout=None, limits=limits)


async def mixed(server: Server, side: int, arrivals: list[float]) -> tuple[list[float], float]:
    """Short edits at their arrival times beside clients that send long ones in a row.

    Returns:
        Seconds of each short edit, and of everything.
    """
    started = time.perf_counter()
    async with client() as http:

        async def long(number: int) -> None:
            for each in range(LONG_EACH):
                await server.edit(http, body(side, LONG, 100 * number + each))

        async def short(number: int, at: float) -> float:
            await asyncio.sleep(at)
            return await server.edit(http, body(side, SHORT, number))

        longs = [asyncio.create_task(long(number)) for number in range(LONG_CLIENTS)]
        shorts = await asyncio.gather(*(short(n, at) for n, at in enumerate(arrivals)))
        await asyncio.gather(*longs)
    return list(shorts), time.perf_counter() - started


async def crowd(server: Server, side: int, steps: int, clients: int, each: int) -> float:
    """Edits per second of so many clients that send one edit after the other."""
    started = time.perf_counter()
    async with client() as http:

        async def one(number: int) -> None:
            for turn in range(each):
                await server.edit(http, body(side, steps, 100 * number + turn))

        await asyncio.gather(*(one(number) for number in range(clients)))
    return clients * each / (time.perf_counter() - started)


async def first_steps(
    server: Server, side: int, probes: int, longs: int = 2
) -> tuple[float, float]:
    """Median seconds from sending an edit to its first step beside long ones; and of one step."""
    count = server.metric("overpaint_step_seconds_count")
    total = server.metric("overpaint_step_seconds_sum")
    async with client() as http:
        background = [
            asyncio.create_task(server.edit(http, body(side, LONG * probes // 2, seed)))
            for seed in range(longs)
        ]
        await asyncio.sleep(1)
        asked = [body(side, SHORT, seed) for seed in range(probes)]
        waited = [await first_step(server, http, each) for each in asked]
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    passes = server.metric("overpaint_step_seconds_count") - count
    step = (server.metric("overpaint_step_seconds_sum") - total) / passes
    return statistics.median(waited), step


async def first_step(server: Server, http: httpx.AsyncClient, asked: dict[str, Any]) -> float:
    """Seconds from sending an edit to the event of its first step."""
    started = time.perf_counter()
    answer = await http.post(f"{server.url}/v1/edits", json={**asked, "async": True})
    where = f"{server.url}/v1/edits/{answer.raise_for_status().json()['id']}"
    waited = None
    async with http.stream("GET", f"{where}/events") as events:
        async for line in events.aiter_lines():
            if waited is None and '"step":' in line and '"step":0' not in line:
                waited = time.perf_counter() - started
    assert waited is not None
    return waited


async def overhead(server: Server, side: int, steps: int, times: int) -> tuple[float, float]:
    """Median seconds of an edit, and the share of them that is not the engine's."""
    async with client() as http:
        shares, seconds = [], []
        for seed in range(times):
            started = time.perf_counter()
            answer = await http.post(f"{server.url}/v1/edits", json=body(side, steps, seed))
            seconds.append(time.perf_counter() - started)
            shares.append(1 - answer.json()["timings"]["total"] / seconds[-1])
    return statistics.median(seconds), statistics.median(shares)


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


async def twins(folder: Path, rounds: int, side: int = 64) -> list[dict[str, Any]]:
    """Everything that small models show."""
    rows: list[dict[str, Any]] = []
    with peer(folder, "float32", 1) as theirs, ours(folder, "float32", 1) as mine:
        both = (theirs, mine)
        for server in both:
            await crowd(server, side, 2, clients=4, each=1)
        fair: list[tuple[float, float]] = []
        for turn in range(rounds):
            every = await alone(theirs, side, SHORT) / SHORT_LOAD
            chance = random.Random(turn)
            gaps = [chance.expovariate(1 / every) for _ in range(SHORTS)]
            arrivals = [sum(gaps[: index + 1]) for index in range(SHORTS)]
            (slow, long), (fast, brief) = [await mixed(each, side, arrivals) for each in both]
            fair.append((p95(slow) / p95(fast), brief / long))
            rows.append(row(f"P95 of {SHORT}-step edits, round {turn + 1}", p95(slow), p95(fast)))
            rows.append(row(f"makespan, round {turn + 1}", long, brief))
        waited, step = await first_steps(mine, side, 10)
        rows.append(
            {
                "what": f"first step of a new edit: step times (one is {step * 1e3:.0f} ms)",
                "overpaint": f"{waited / step:.1f}",
            }
        )
        steps = min(190, max(10, round(20 * 2.2 / await alone(mine, side, 20))))
        seconds, share = await overhead(mine, side, steps, 5)
        rows.append(
            {"what": f"server's share of an edit of {seconds:.1f} s", "overpaint": f"{share:.1%}"}
        )
    ratios = [statistics.median(values) for values in zip(*fair, strict=True)]
    rows.append({"what": "median P95 ratio (aim: 5 or more)", "ratio": f"{ratios[0]:.1f}"})
    rows.append({"what": "median makespan ratio (aim: 1.05 or less)", "ratio": f"{ratios[1]:.2f}"})
    return rows


async def throughput(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Edits per second of 16 clients, all cores for both, with each of our backends."""
    rows: list[dict[str, Any]] = []
    threads = os.cpu_count() or 1
    for side, backend in itertools.product((64, 128), ("torch", "openvino")):
        what = f"edits/s, 16 clients, 10 steps, {side} px, {backend}"
        with (
            peer(folder, "float32", threads) as theirs,
            ours(folder, "float32", threads, backend) as mine,
        ):
            for server in (theirs, mine):
                await crowd(server, side, 2, clients=4, each=1)
            rates, images, passes, seconds = [], 0, 0.0, 0.0
            for _ in range(rounds):
                slow = await crowd(theirs, side, 10, 16, 1)
                before = passes_of(mine)
                rates.append((slow, await crowd(mine, side, 10, 16, 2)))
                after = passes_of(mine)
                images += 16 * 2 * 10
                passes, seconds = passes + after[0] - before[0], seconds + after[1] - before[1]
        middle = sorted(rates, key=lambda rate: rate[1] / rate[0])[len(rates) // 2]
        made = row(what, *middle, better="more")
        made["images in a pass"] = f"{images / passes:.1f}"
        made["ms of a pass per image"] = f"{1e3 * seconds / images:.1f}"
        rows.append(made)
    return rows


def passes_of(server: Server) -> tuple[float, float]:
    """Forward passes so far, and their seconds."""
    return (
        server.metric("overpaint_step_seconds_count"),
        server.metric("overpaint_step_seconds_sum"),
    )


async def real_size(folder: Path, dtype: str, side: int, clients: int) -> list[dict[str, Any]]:
    """Throughput, first step and overhead at the size of stable-diffusion-2."""
    rates = []
    for start in (peer, ours):
        with start(folder, dtype, os.cpu_count() or 1) as server:
            await alone(server, side, 1, times=1)
            rates.append(await crowd(server, side, 3, clients, 1))
            if start is ours:
                waited, step = await first_steps(server, side, 3, longs=1)
                seconds, share = await overhead(server, side, 1, 2)
    return [
        row(
            f"edits/min, {clients} clients, 3 steps", *(60 * rate for rate in rates), better="more"
        ),
        {
            "what": f"first step of a new edit: step times (one is {step:.1f} s)",
            "overpaint": f"{waited / step:.2f}",
        },
        {"what": f"server's share of an edit of {seconds:.1f} s", "overpaint": f"{share:.1%}"},
    ]


def row(what: str, slow: float, fast: float, *, better: str = "less") -> dict[str, Any]:
    """Both figures, and how many times better ours is."""
    ratio = slow / fast if better == "less" else fast / slow
    return {
        "what": what,
        "diffusers + lock": f"{slow:.2f}",
        "overpaint": f"{fast:.2f}",
        "ratio": f"{ratio:.2f}",
    }


async def soak(folder: Path, seconds: float, side: int = 64) -> list[dict[str, Any]]:
    """Mixed load with callers that hang up; the server's memory on the way."""
    rows = []
    with ours(folder, "float32", 1) as server:
        chance = random.Random(0)
        end = time.monotonic() + seconds

        async def one(http: httpx.AsyncClient) -> None:
            while time.monotonic() < end:
                asked = body(side, chance.choice([1, 4, 12]), chance.randrange(1000))
                patience = chance.choice([0.05, 60, 60, 60])
                try:
                    await asyncio.wait_for(server.edit(http, asked), patience)
                except (TimeoutError, httpx.HTTPStatusError):
                    await asyncio.sleep(0.1)

        async def watch() -> None:
            while time.monotonic() < end:
                rows.append(memory(server, seconds - (end - time.monotonic())))
                await asyncio.sleep(seconds / 10)

        async with client() as http:
            await asyncio.gather(watch(), *(one(http) for _ in range(24)))
        await asyncio.sleep(2)
        rows.append(memory(server, seconds))
    return rows


def memory(server: Server, at: float) -> dict[str, Any]:
    """One line of a soak."""
    return {
        "seconds": round(at),
        "resident MiB": round(server.metric("overpaint_resident_bytes") / 2**20),
        "edits in the queue": int(server.metric("overpaint_queue_edits")),
        "passes": int(server.metric("overpaint_step_seconds_count")),
    }


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real-size", action="store_true")
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4, help="of --real-size")
    parser.add_argument("--side", type=int, default=512, help="of --real-size, in pixels")
    parser.add_argument("--folder", type=Path, help="an sd2 checkpoint; default: the twin")
    asked = parser.parse_args()
    twin = asked.folder or Path(str(files("overpaint") / "twins" / "tiny-sd2"))
    if asked.soak:
        name, title = "serving_soak", f"Soak of {asked.soak:.0f} s"
        rows = asyncio.run(soak(twin, asked.soak))
    elif asked.throughput:
        name, title = "serving_throughput", "Throughput with the sd2 twin"
        rows = asyncio.run(throughput(twin, asked.rounds))
    elif asked.real_size:
        from benchmarks import real_size as checkpoints
        from overpaint.checkpoints.placement import choose

        name, title = "serving_real_size", f"Serving at SD2's size, {asked.side} px"
        folder = asked.folder or checkpoints.sd2(Path(tempfile.gettempdir()) / "overpaint-sd2")
        dtype = str(choose("cpu").dtype).removeprefix("torch.")
        rows = asyncio.run(real_size(folder, dtype, asked.side, asked.clients))
    else:
        name, title = "serving", "Serving with the sd2 twin"
        rows = asyncio.run(twins(twin, asked.rounds))
    report.write(
        name, title, f"python -m benchmarks.serving {' '.join(sys.argv[1:])}".strip(), rows
    )


if __name__ == "__main__":
    main()

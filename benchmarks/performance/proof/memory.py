"""Where the peak of an edit's memory lies: Flex.2 with its modulation out, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from benchmarks.performance import peers
from benchmarks.performance.proof.bench import Bench
from benchmarks.performance.proof.journal import goal
from overpaint.checkpoints import placement
from overpaint.checkpoints.placement import MemoryPlan

GOAL = 15.0
"""Gigabytes that the edit may take."""

TIERS = ("modulation out", "tiled decode")


def section(bench: Bench) -> None:
    """The phases in both tiers that leave the modulation out."""
    for tier in TIERS:
        with _only(tier):
            _phases(bench, tier)


def _phases(bench: Bench, tier: str) -> None:
    clock, journal = bench.clock, bench.journal
    peaks: list[float] = []

    def phase(name: str, work: Callable[[], Any]) -> Any:
        journal.check()
        clock.reset_peak()
        result: list[Any] = []
        seconds = clock.seconds(lambda: result.append(work()))
        peak = clock.peak()
        peaks.append(peak or 0.0)
        journal.add(f"{tier}: {name}", **{"ours s": round(seconds, 3), "peak GB": peak})
        return result[0]

    clock.forget()
    clock.reset_peak()
    with bench.engine("flex2") as engine:
        journal.add(f"{tier}: load", **{"peak GB": clock.peak()})
        peers.forget(engine)
        request = bench.request("flex2", 0.1, window="full", num_inference_steps=4)
        edit = phase("text, encode, modulation", lambda: engine.begin(request))
        phase("first step", lambda: engine.step(edit.model, edit.prepared))
        while edit.prepared[0].step < edit.prepared[0].total - 1:
            engine.step(edit.model, edit.prepared)
        phase("last step", lambda: engine.step(edit.model, edit.prepared))
        phase("decode, composite", lambda: engine.finish(edit))
    highest = max(peaks)
    beside = goal(highest, GOAL, counts=bench.counts)
    journal.add(f"{tier}: whole edit", **{"peak GB": highest, "before s": "17.8 GB"}, **beside)


@contextmanager
def _only(tier: Any) -> Any:
    """Have models held as this tier says, however much memory is free."""
    before = placement.preflight

    def chosen(name: str, need: placement.MemoryNeed, free: int) -> MemoryPlan:
        return MemoryPlan(need.weights, need.peak(tier), free, tier, evict_ahead=bool(need.ahead))

    placement.preflight = chosen
    try:
        yield
    finally:
        placement.preflight = before

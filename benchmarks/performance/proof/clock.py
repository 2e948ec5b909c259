"""What work takes: by the host's clock and by the device's, launches, and the peak of memory."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

QUICK = 1.5
"""Seconds of work that is measured more than once."""


@dataclass(frozen=True)
class Clock:
    """Measures on one device.

    Attributes:
        device: where the work is done.
        rounds: of measuring, whose median counts.
    """

    device: torch.device
    rounds: int = 3

    @property
    def _module(self) -> Any:
        return None if self.device.type == "cpu" else torch.get_device_module(self.device)

    def wait(self) -> None:
        """Until the device has done what was asked of it."""
        if self._module is not None:
            self._module.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """From beginning to end, the device's work included."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def median(self, work: Callable[[], object]) -> float:
        """Seconds of work that was done before: the median, or once where it takes long."""
        first = self.seconds(work)
        more = self.rounds - 1 if first < QUICK else 0
        return statistics.median([first, *(self.seconds(work) for _ in range(more))])

    def step(self, work: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds for which the host and the device are busy; the host does not wait."""
        work()
        hosts, devices = [], []
        for _ in range(self.rounds):
            self.wait()
            events = self._events()
            started = time.perf_counter()
            if events:
                events[0].record()
            work()
            if events:
                events[1].record()
            hosts.append(time.perf_counter() - started)
            self.wait()
            whole = time.perf_counter() - started
            devices.append(events[0].elapsed_time(events[1]) / 1e3 if events else whole)
        return 1e3 * statistics.median(hosts), 1e3 * statistics.median(devices)

    def _events(self) -> tuple[Any, Any] | None:
        if self.device.type != "cuda":
            return None
        return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def kernels(self, work: Callable[[], object]) -> tuple[int, list[tuple[str, float]]] | None:
        """Launches of one run, and the five kernels that take most, with their milliseconds."""
        if self.device.type != "cuda":
            return None
        from torch.profiler import ProfilerActivity, profile

        kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        with profile(activities=kinds) as profiled:
            work()
            self.wait()
        averages = profiled.key_averages()
        launches = sum(each.count for each in averages if "LaunchKernel" in each.key)
        on_card = [each for each in averages if each.device_type.name == "CUDA"]
        on_card.sort(key=lambda each: -each.self_device_time_total)
        return launches, [
            (each.key[:60], each.self_device_time_total / 1e3) for each in on_card[:5]
        ]

    def reset_peak(self) -> None:
        """Measure the peak of memory from now on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """Gigabytes held at most since then; None where the device does not count."""
        if self.device.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)

    def forget(self) -> None:
        """Give memory back that nobody uses any more."""
        gc.collect()
        if self._module is not None and hasattr(self._module, "empty_cache"):
            self._module.empty_cache()

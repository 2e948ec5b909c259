"""How long a device computes, by its own clock.

A card is given its work and does it later: the time of handing it over does not show how long the
work takes. So its work is enclosed in two events, which it stamps when it comes to them.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

AHEAD = 1
"""Passes that a device may have been given beyond the one that it computes: it never waits for the
next one, and no more are lost on an edit that nobody wants any more."""


class Watch(Protocol):
    """The time of one piece of work."""

    def stop(self) -> None:
        """All of the work has been given to the device."""

    def seconds(self) -> float:
        """How long it took; waits until it is done."""

    @property
    def is_done(self) -> bool:
        """Whether the device has done it."""


class Clock(Protocol):
    """Measures a device's work."""

    def start(self) -> Watch:
        """The work begins."""


class HostClock:
    """For devices whose work is done when it was given to them."""

    def start(self) -> Watch:
        return _HostWatch()


class _HostWatch:
    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._seconds = 0.0

    def stop(self) -> None:
        self._seconds = time.perf_counter() - self._started

    def seconds(self) -> float:
        return self._seconds

    @property
    def is_done(self) -> bool:
        return True


class CudaClock:
    """For cards: the stamps of events in the current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> Watch:
        import torch

        return _CudaWatch(torch.cuda.current_stream(self._device))


class _CudaWatch:
    def __init__(self, stream: Any) -> None:
        import torch

        self._stream = stream
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._begin.record(stream)

    def stop(self) -> None:
        self._end.record(self._stream)

    def seconds(self) -> float:
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) / 1000

    @property
    def is_done(self) -> bool:
        return bool(self._end.query())  # type: ignore[no-untyped-call]


def of(device: str) -> Clock:
    """The clock of a device, as torch names it."""
    if device.startswith("cuda"):
        import torch

        return CudaClock(torch.device(device))
    return HostClock()


class Throttle:
    """Keeps a program from giving a device more than `AHEAD` pieces of work beyond the present one.

    Args:
        clock: of the device.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started: deque[Watch] = deque()

    def __call__(self) -> None:
        """A piece of work was given to it."""
        watch = self._clock.start()
        watch.stop()
        self._started.append(watch)
        if len(self._started) > AHEAD:
            self._started.popleft().seconds()

    def finish(self) -> None:
        """Wait until all of it is done."""
        while self._started:
            self._started.popleft().seconds()

"""Ctrl-C while an edit runs: the first ends it at the next step, the second at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """Listens to SIGINT as long as its block runs.

    Before the first step there is nothing to end gracefully: Ctrl-C is a KeyboardInterrupt then,
    as it is for the second Ctrl-C. Use `cancelled` as the engine's question between steps, and
    `raise_if_pressed` for a Ctrl-C that came after the last one.
    """

    def __init__(self) -> None:
        self._pressed = False
        self._stepping = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def cancelled(self) -> bool:
        """Whether Ctrl-C was pressed; asked before each step."""
        self._stepping = True
        return self._pressed

    def raise_if_pressed(self) -> None:
        """End here if Ctrl-C was pressed."""
        if self._pressed:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._pressed or not self._stepping:
            raise KeyboardInterrupt
        self._pressed = True

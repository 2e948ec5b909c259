"""Ctrl-C: the first ends an edit at its next step, the second at once, and none is lost.

A KeyboardInterrupt alone can be lost: a library catches it, or it comes up in a destructor, where
Python prints it and goes on. So Ctrl-C is remembered as well as raised, and raised again at the
next step of a command. In an import it can do worse: one that comes up while torch's C++ sets
itself up aborts the process. So it waits until the import is done.

Nothing is imported here that takes time: the command line listens before it loads the rest.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

RETRY_SECONDS = 0.02


class _Ear:
    """Hears SIGINT and remembers it.

    Attributes:
        pressed: whether Ctrl-C came.
        graceful: somebody asks for it between steps, so the first needs no KeyboardInterrupt.
        settled: the command's end is decided, so the first changes nothing.
    """

    def __init__(self) -> None:
        self.pressed = self.graceful = self.settled = False
        self._again = False
        self._timer: threading.Timer | None = None

    def listen(self) -> Any:
        """Begin to listen, and return the earlier handler.

        Where SIGINT is ignored it stays so: a script's `overpaint … &` outlives the Ctrl-C that is
        meant for another command.
        """
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._on_signal)
        return before

    def stop(self, before: Any) -> None:
        """Give SIGINT back to the earlier handler."""
        if self._timer is not None:
            self._timer.cancel()
        signal.signal(signal.SIGINT, before)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        first, self.pressed = not self.pressed or self._again, True
        self._again = False
        if first and (self.graceful or self.settled):
            return
        if first and _importing(frame):
            self._timer = threading.Timer(RETRY_SECONDS, self._press_again)
            self._timer.daemon = True
            self._timer.start()
            return
        raise KeyboardInterrupt

    def _press_again(self) -> None:
        self._again = True
        _thread.interrupt_main()


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


_ear: _Ear | None = None


class Interrupt:
    """Listens to SIGINT as long as its block runs; what is heard in a block inside it counts, too.

    Before the first step there is nothing to end gracefully: Ctrl-C is a KeyboardInterrupt then,
    as it is for the second Ctrl-C. Use `cancelled` as the engine's question between steps. A
    Ctrl-C that came after the last one, or was lost, is raised at the end of the block.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        global _ear
        raise_if_pressed()
        if _ear is None:
            _ear = _Ear()
            self._before = _ear.listen()
        return self

    def __exit__(self, *_: object) -> None:
        global _ear
        try:
            if _ear is not None:
                _ear.graceful = False
            raise_if_pressed()
        finally:
            if _ear is not None and self._before is not None:
                _ear.stop(self._before)
                _ear = None

    def cancelled(self) -> bool:
        """Whether Ctrl-C was pressed; asked before each step."""
        if _ear is None:
            return False
        _ear.graceful = True
        return _ear.pressed


def listen() -> None:
    """Listen from now on to the end of the process."""
    global _ear
    _ear = _Ear()
    _ear.listen()


def is_pending() -> bool:
    """Whether Ctrl-C was pressed in time, and the command goes on all the same."""
    return _ear is not None and _ear.pressed and not _ear.settled


def raise_if_pressed() -> None:
    """End here if Ctrl-C was pressed, unless it came too late.

    Raises:
        KeyboardInterrupt: it was.
    """
    if is_pending():
        raise KeyboardInterrupt


def settle() -> None:
    """From here on Ctrl-C comes too late: the work is done. A second one still ends at once."""
    if _ear is not None:
        _ear.settled = True


def leave(code: int | str | None) -> None:
    """The process ends with this code and all output is written, so Ctrl-C may cut its last moments
    short.

    After Ctrl-C it ends here: threads that are still in torch's code, which nobody waits for after
    a second Ctrl-C, would abort the process while Python takes itself down.
    """
    settle()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        number = code if isinstance(code, int) else int(code is not None)
        signal.signal(signal.SIGINT, lambda *_: os._exit(number))
        if _ear is not None and _ear.pressed and number:
            os._exit(number)

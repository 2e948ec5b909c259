"""How the server ends: within its time, whatever its clients and its models do.

A first signal begins the end: what was accepted is finished and can be fetched. Edits that are not
done shortly before the time is over are refused, so that their callers learn of it. Work that
cannot be stopped even then (a decoder, a pass, a judge that does not answer) ends with the process.
A second signal ends the process at once.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import NoReturn

CUT_OFF_EXIT = 1
"""Exit status where work had to be ended with the process."""

LOST_EXIT = 3
"""Exit status where no device and no model is left; a supervisor then starts the server again."""

LAST_SECONDS = 1.0
"""Of the time, for the answers to those whose edits are refused."""

_LOG_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Shutdown:
    """The time that an ending server has.

    Args:
        seconds: from its beginning to its end.

    Attributes:
        is_cut: edits were refused because the time was over.
        status: of the process when it ends in time.
    """

    def __init__(self, seconds: float) -> None:
        self.is_cut = False
        self.status = 0
        self._seconds = seconds
        self._begin_event = threading.Event()
        self._began = 0.0

    def begin(self) -> None:
        """Start the clock, once. Safe in a signal's handler."""
        if not self._begin_event.is_set():
            self._began = time.monotonic()
            self._begin_event.set()

    @property
    def has_begun(self) -> bool:
        """Whether the server is ending."""
        return self._begin_event.is_set()

    @property
    def seconds_left(self) -> float:
        """Until the process ends; endless before the end has begun."""
        if not self.has_begun:
            return float("inf")
        return max(0.0, self._began + self._seconds - time.monotonic())

    @property
    def is_nearly_over(self) -> bool:
        """Whether what is not done now is done no more."""
        return self.seconds_left <= self.last_seconds

    @property
    def last_seconds(self) -> float:
        """The time reserved for the last answers."""
        return min(LAST_SECONDS, self._seconds / 4)

    def enforce(self) -> None:
        """End the process when the time is over, from a thread that nothing holds up."""
        threading.Thread(target=self._enforce, name="ending", daemon=True).start()

    def _enforce(self) -> NoReturn:
        self._begin_event.wait()
        while (left := self.seconds_left) > 0:
            time.sleep(left)
        leave(CUT_OFF_EXIT, "the time to end is over; what is still at work ends with the process")


def at_once(number: int) -> None:
    """Let a signal do what it does by default: end the process."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def leave(status: int, reason: str | None = None) -> NoReturn:
    """End the process without waiting for its threads."""

    def say() -> None:
        if reason is not None:
            _log.error(reason)
        logging.shutdown()

    # Beside this thread: the reader of the log may have stopped reading.
    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    saying.join(_LOG_SECONDS)
    os._exit(status)

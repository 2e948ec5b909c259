"""Memory that runs out: every library's way to say so becomes `OutOfMemory`.

The error that leaves here keeps nothing alive: a traceback refers to the frames that it went
through, and those to tensors and half-loaded weights, for as long as somebody keeps the error.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from overpaint.core.errors import OutOfMemory, OverpaintError

GIB = 1024**3

SAYINGS = ("allocate memory", "out of memory", "not enough memory")
"""Words in libraries' messages: torch's for every device, the C library's for mapped files."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    return not isinstance(error, OverpaintError) and any(
        words in str(error).lower() for words in SAYINGS
    )


@contextmanager
def mapped(message: str) -> Iterator[None]:
    """Raise `OutOfMemory` where memory runs out.

    Args:
        message: what does not fit, and what to do.

    Raises:
        OutOfMemory: with that message; one that was raised on purpose keeps its own.
    """
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        empty_frames(error)
        if isinstance(error, OutOfMemory):
            raise
        raise OutOfMemory(message) from error


def empty_frames(error: BaseException | None) -> None:
    """Let the frames that an error went through forget their variables; their lines stay known.

    Frames that still run leave the traceback: they would keep theirs when they end. Variables that
    a nested function uses from outside are kept, so nothing large should be reached that way.
    """
    ids: set[int] = set()
    while error is not None and id(error) not in ids:
        ids.add(id(error))
        error.__traceback__ = _emptied(error.__traceback__)
        error = error.__cause__ or error.__context__


def _emptied(first: TracebackType | None) -> TracebackType | None:
    entry = first
    while entry is not None:
        try:
            entry.tb_frame.clear()
        except RuntimeError:
            first = entry.tb_next
        entry = entry.tb_next
    return first

"""Long work asks now and then whether something else is to be done first, or whether to end.

The runner of the work answers; where there is none, asking costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_answer: ContextVar[Callable[[], None] | None] = ContextVar("interruption", default=None)


def check() -> None:
    """Let the runner of this work do something in between.

    Raises:
        OverpaintError: the error that ends the work, such as `Cancelled`.
    """
    answer = _answer.get()
    if answer is not None:
        answer()


@contextmanager
def answered(answer: Callable[[], None]) -> Iterator[None]:
    """Let `check` call a function within, in this thread; an error that it raises ends the work."""
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)

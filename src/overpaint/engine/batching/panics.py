"""Errors that are no `Exception`: panics of native libraries, and the ends of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def plain(error: BaseException) -> Exception:
    """An error that every future and every event loop hands on as it is.

    An event loop ends itself over `SystemExit`, and `except Exception` does not see a panic of a
    library in Rust.
    """
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


@contextmanager
def as_errors() -> Iterator[None]:
    """Make a native library's panic an error of the work at hand, which then fails alone.

    Errors that end a thread or the process are left as they are.
    """
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as panic:
        raise plain(panic) from panic

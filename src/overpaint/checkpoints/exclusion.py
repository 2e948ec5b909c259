"""Keeps computations apart from the loading of weights that would disturb them.

The libraries change how torch makes modules and tensors while they load, in the whole process.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Many hold it together, or one thread holds it alone.

    A thread that waits to be alone goes before newcomers. A thread that is alone may take it again
    in both ways; one that shares it cannot be alone before it has let go.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._sharing: Counter[int] = Counter()
        self._waiting = 0
        self._owner: int | None = None
        self._depth = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it together with others."""
        me = threading.get_ident()
        with self._change:
            if self._owner != me and not self._sharing[me]:
                self._change.wait_for(lambda: self._owner is None and not self._waiting)
            self._sharing[me] += 1
        try:
            yield
        finally:
            with self._change:
                self._sharing[me] -= 1
                if not self._sharing[me]:
                    del self._sharing[me]
                self._change.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone.

        Raises:
            RuntimeError: this thread shares it, and would wait for itself.
        """
        me = threading.get_ident()
        with self._change:
            if self._owner != me:
                if self._sharing[me]:
                    raise RuntimeError("a component is loaded while another one computes")
                self._waiting += 1
                try:
                    self._change.wait_for(lambda: self._owner is None and not +self._sharing)
                finally:
                    self._waiting -= 1
                self._owner = me
            self._depth += 1
        try:
            yield
        finally:
            with self._change:
                self._depth -= 1
                if not self._depth:
                    self._owner = None
                self._change.notify_all()


LOADING = SharedLock()
"""Held alone while a library makes a model, shared by threads that compute."""

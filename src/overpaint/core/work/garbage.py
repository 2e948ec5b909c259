"""Python's search for garbage, which stops every thread, and takes long among a model's objects."""

from __future__ import annotations

import gc
import threading

_lock = threading.Lock()
_has_set_aside = False


def set_aside() -> None:
    """Exclude all present objects from the search, until `include_all`."""
    global _has_set_aside
    with _lock:
        gc.collect()
        gc.freeze()
        _has_set_aside = True


def include_all() -> None:
    """Undo `set_aside`; what other parts of the program froze by themselves is not touched."""
    global _has_set_aside
    with _lock:
        if _has_set_aside:
            gc.unfreeze()
            _has_set_aside = False

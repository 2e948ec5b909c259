"""Python's search for garbage, which stops every thread, and takes long among a model's objects."""

from __future__ import annotations

import gc
import threading

_lock = threading.Lock()
_has_set_aside = False


def set_aside() -> None:
    """Exclude all present objects from the search, until `include_all`.

    Nothing happens if another part of the program has done so, because to include ours again would
    include its objects, too.
    """
    global _has_set_aside
    with _lock:
        if gc.get_freeze_count() and not _has_set_aside:
            return
        gc.collect()
        gc.freeze()
        _has_set_aside = True


def include_all() -> None:
    """Undo `set_aside`; objects that another part of the program excluded stay so."""
    global _has_set_aside
    with _lock:
        if _has_set_aside:
            gc.unfreeze()
            _has_set_aside = False

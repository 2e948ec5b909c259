"""Editing turn after turn: sessions that are kept, measured and undone.

from pathlib import Path
from overpaint.sessions import Editor, Store

store = Store("sqlite:///sessions.db", Path("pictures"))
editor = Editor.with_engine(overpaint.load("kontext"), store=store)
session = editor.new("photo.jpg", "the car")
session, turn = editor.edit(session.id, "make the car red", num_images=4)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overpaint.sessions.editor import Editor as Editor
    from overpaint.sessions.editor import Sessions as Sessions
    from overpaint.sessions.judges.judging import Judge as Judge
    from overpaint.sessions.judges.judging import Judgement as Judgement
    from overpaint.sessions.measuring import Examiner as Examiner
    from overpaint.sessions.store import Store as Store
    from overpaint.sessions.store import StoreLimits as StoreLimits
    from overpaint.sessions.types import Session as Session
    from overpaint.sessions.types import Turn as Turn

_HOMES = {
    "Editor": "editor",
    "Examiner": "measuring",
    "Judge": "judges.judging",
    "Judgement": "judges.judging",
    "Session": "types",
    "Sessions": "editor",
    "Store": "store",
    "StoreLimits": "store",
    "Turn": "types",
}

__all__ = [
    "Editor",
    "Examiner",
    "Judge",
    "Judgement",
    "Session",
    "Sessions",
    "Store",
    "StoreLimits",
    "Turn",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: the editor needs torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

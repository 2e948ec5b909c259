"""What a program of our own decides for its process; never done in a process of somebody else's."""

from __future__ import annotations

import os

_is_ours = False


def take() -> None:
    """Say that this process is a program of our own, before torch is imported.

    Idle torch threads sleep instead of spinning: on busy cores, spinning made small edits 30 times
    slower. OpenMP reads the variable when torch is loaded.
    """
    global _is_ours
    _is_ours = True
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_ours() -> bool:
    """Whether it is."""
    return _is_ours

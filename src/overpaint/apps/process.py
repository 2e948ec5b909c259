"""What a program of our own decides for its process; never done in a process of somebody else's."""

from __future__ import annotations

import os

SPINS = 10_000
"""Turns of an idle OpenMP thread before it sleeps: some tens of microseconds."""

_is_ours = False


def take() -> None:
    """Say that this process is a program of our own, before torch is imported.

    Idle torch threads sleep instead of spinning for milliseconds: on busy cores, spinning made
    small edits 30 times slower. Between two operations they spin for a moment all the same: to wake
    them takes as long as an operation of a small picture does. OpenMP reads the variables when
    torch is loaded; GNU's alone knows the second.
    """
    global _is_ours
    _is_ours = True
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def is_ours() -> bool:
    """Whether it is."""
    return _is_ours

"""Values; no torch."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`detections` stood here before it got a room; programs import it from here still."""
    if name == "detections":
        from overpaint.core.imaging import detections

        return detections
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

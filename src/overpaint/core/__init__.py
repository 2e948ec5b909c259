"""Values; no torch."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`detections` used to be here; programs still import it from here."""
    if name == "detections":
        from overpaint.core.imaging import detections

        return detections
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

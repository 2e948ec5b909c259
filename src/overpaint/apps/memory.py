"""How models would fit the memory that is free now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overpaint.apps import build

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import ModelSpec
    from overpaint.diffusion.placement import MemoryPlan


def plan(spec: ModelSpec, settings: Settings) -> MemoryPlan:
    """How a model that is here would be held, on the settings' device; loads nothing.

    Raises:
        OverpaintError: see `build.load_model`.
    """
    from overpaint.diffusion.loading import Checkpoint
    from overpaint.diffusion.placement import choose, free_memory, preflight, weights_in

    folder = build.locate(spec, settings)
    placement = choose(settings.device, settings.dtype, parameters=weights_in(folder))
    need = Checkpoint(folder, placement, loras=spec.loras).need()
    return preflight(spec.name, need, free_memory(placement.device))

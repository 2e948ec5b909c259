"""Adapters of a folder, added to a model by its name: `sdxl+sketch@0.8+grain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from overpaint.core.errors import ModelNotFound
from overpaint.core.models import Lora, ModelSpec

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings

JOINT, AT = "+", "@"
MOST = 2.0
STEP = 0.05
"""Scales are multiples of it, so that there are not too many models."""

FIELD = "model"


def files(settings: Settings) -> dict[str, Path]:
    """The adapters of the settings' folder, by name: a file without its ending."""
    folder = settings.adapters
    if folder is None or not folder.is_dir():
        return {}
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def adapted(spec: ModelSpec, names: str, settings: Settings) -> ModelSpec:
    """A model with adapters beside its own.

    Args:
        spec: the model.
        names: what comes after the model's name: `sketch@0.8+grain`; the scale is 1 where none is
            named.
        settings: name the folder.

    Raises:
        ModelNotFound: there is no such adapter, or a scale is out of range.
    """
    paths = files(settings)
    loras = []
    for name in names.split(JOINT):
        stem, scale = (name, 1.0) if name in paths else _parsed(name)
        if stem not in paths:
            there = ", ".join(paths) or "none"
            raise ModelNotFound(
                f"there is no adapter '{stem[:60]}'; there are {there}", field=FIELD
            )
        loras.append(Lora(paths[stem], scale))
    marks = (f"{JOINT}{each.path.stem}{AT}{each.scale:g}" for each in loras)
    return replace(spec, name=spec.name + "".join(marks), loras=(*spec.loras, *loras))


def _parsed(name: str) -> tuple[str, float]:
    stem, at, number = name.rpartition(AT)
    if not at:
        return name, 1.0
    try:
        scale = round(round(float(number) / STEP) * STEP, 2)
    except (ValueError, OverflowError):
        scale = MOST + 1
    if not -MOST <= scale <= MOST:
        raise ModelNotFound(
            f"'{number[:20]}' is not the scale of an adapter; give -{MOST:g} to {MOST:g}",
            field=FIELD,
        )
    return stem, scale

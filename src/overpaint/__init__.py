"""Overpaint: text-guided image inpainting and editing, self-hosted.

import overpaint

engine = overpaint.load("flex2")
result = engine.edit("photo.jpg", "a red kite in the sky", mask="mask.png", seed=7)
result.images[0].save("edited.png")
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from overpaint.core.version import __version__

if TYPE_CHECKING:
    from overpaint.core import errors as errors
    from overpaint.core.images import Picture as Picture
    from overpaint.core.models import Lora as Lora
    from overpaint.core.types import EditRequest as EditRequest
    from overpaint.core.types import EditResult as EditResult
    from overpaint.core.types import Progress as Progress
    from overpaint.engine.engine import Engine as Engine

_HOMES = {
    "EditRequest": "overpaint.core.types",
    "EditResult": "overpaint.core.types",
    "Engine": "overpaint.engine.engine",
    "Lora": "overpaint.core.models",
    "Picture": "overpaint.core.images",
    "Progress": "overpaint.core.types",
}

__all__ = [
    "EditRequest",
    "EditResult",
    "Engine",
    "Lora",
    "Picture",
    "Progress",
    "__version__",
    "errors",
    "load",
]


def load(
    model: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    loras: Sequence[Lora] = (),
) -> Engine:
    """Load a model and give the engine that edits with it.

    Args:
        model: name (`overpaint models` lists them) or a folder in diffusers layout; None = the
            default for inpainting.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu'; None = as in the settings.
        dtype: 'auto', 'float32', 'bfloat16' or 'float16'; None = as in the settings.
        loras: low-rank adapters for the model.

    Raises:
        overpaint.errors.ModelNotFound: no such model, or it was not pulled.
        overpaint.errors.ModelLoadError: its files are not what they should be.
        overpaint.errors.OutOfMemory: it does not fit the memory there is.
        overpaint.errors.InvalidSettings: `overpaint.toml` is at fault.
    """
    from overpaint.apps.wiring import build

    return build.engine(model, device=device, dtype=dtype, loras=loras)


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: importing torch takes seconds."""
    if name == "errors":
        return importlib.import_module("overpaint.core.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'overpaint' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

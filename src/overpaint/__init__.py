"""Overpaint: text-guided image inpainting and editing, self-hosted.

import overpaint

engine = overpaint.load("flex2")
result = engine.edit("photo.jpg", "a red kite in the sky", mask="mask.png", seed=7)
result.images[0].save("edited.png")
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from overpaint.core.version import __version__

if TYPE_CHECKING:
    from overpaint.checkpoints.component import Component as Component
    from overpaint.core import errors as errors
    from overpaint.core.geometry import Plan as Plan
    from overpaint.core.imaging import detections as detections
    from overpaint.core.imaging import masks as masks
    from overpaint.core.imaging.borders import Anchor
    from overpaint.core.imaging.detections import Detection as Detection
    from overpaint.core.imaging.images import Picture as Picture
    from overpaint.core.models import Lora as Lora
    from overpaint.core.types import EditRequest as EditRequest
    from overpaint.core.types import EditResult as EditResult
    from overpaint.core.types import Progress as Progress
    from overpaint.diffusion.denoiser import Denoiser as Denoiser
    from overpaint.diffusion.denoiser import Latent as Latent
    from overpaint.diffusion.family import Family as Family
    from overpaint.diffusion.family import FamilySpec as FamilySpec
    from overpaint.diffusion.family import Prepared as Prepared
    from overpaint.diffusion.options import FamilyOptions as FamilyOptions
    from overpaint.engine.engine import Engine as Engine
    from overpaint.engine.intake import PictureLike

_HOMES = {
    "Component": "overpaint.checkpoints.component",
    "Denoiser": "overpaint.diffusion.denoiser",
    "Detection": "overpaint.core.imaging.detections",
    "EditRequest": "overpaint.core.types",
    "EditResult": "overpaint.core.types",
    "Engine": "overpaint.engine.engine",
    "Family": "overpaint.diffusion.family",
    "FamilyOptions": "overpaint.diffusion.options",
    "FamilySpec": "overpaint.diffusion.family",
    "Latent": "overpaint.diffusion.denoiser",
    "Lora": "overpaint.core.models",
    "Picture": "overpaint.core.imaging.images",
    "Plan": "overpaint.core.geometry",
    "Prepared": "overpaint.diffusion.family",
    "Progress": "overpaint.core.types",
}

_MODULES = {
    "detections": "overpaint.core.imaging.detections",
    "errors": "overpaint.core.errors",
    "masks": "overpaint.core.imaging.masks",
}

__all__ = [
    "Component",
    "Denoiser",
    "Detection",
    "EditRequest",
    "EditResult",
    "Engine",
    "Family",
    "FamilyOptions",
    "FamilySpec",
    "Latent",
    "Lora",
    "Picture",
    "Plan",
    "Prepared",
    "Progress",
    "__version__",
    "detections",
    "errors",
    "extend",
    "load",
    "masks",
    "request",
    "segment",
]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    loras: Sequence[Lora] = (),
) -> Engine:
    """Load a model and give the engine that edits with it.

    Args:
        model: name (`overpaint models` lists them) or a folder in diffusers layout; None = the
            default for inpainting: the best model that is here. If none is, a bundled toy answers,
            with a `UserWarning`.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu'; None = as in the settings.
        dtype: 'auto', 'float32', 'bfloat16' or 'float16'; None = as in the settings.
        loras: low-rank adapters for the model.

    Raises:
        overpaint.errors.ModelNotFound: no such model, or it was not pulled.
        overpaint.errors.InvalidRequest: the model is neither a name nor a path.
        overpaint.errors.ModelLoadError: its files are not what they should be.
        overpaint.errors.OutOfMemory: it does not fit the memory there is.
        overpaint.errors.InvalidSettings: `overpaint.toml` is at fault.
    """
    from overpaint.apps.wiring.models import build

    engine = build.engine(_name_of(model), device=device, dtype=dtype, loras=loras)
    for sentence in engine.model().notices:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return engine


def request(image: PictureLike, prompt: str = "", **values: Any) -> EditRequest:
    """An edit for `Engine.run`, from whatever people have.

    Args:
        image: a path, bytes, an array, a PIL image or a `Picture`.
        prompt: what the masked area should show, or the instruction.
        **values: as for `Engine.edit`.

    Raises:
        overpaint.errors.InvalidRequest: a value cannot be used; its `field` names it.
    """
    from overpaint.engine import intake

    return intake.request_of(intake.split({"image": image, "prompt": prompt, **values}))


def extend(
    image: PictureLike,
    prompt: str = "",
    *,
    left: int | str = 0,
    top: int | str = 0,
    right: int | str = 0,
    bottom: int | str = 0,
    to: str | None = None,
    anchor: Anchor = "center",
    model: str | os.PathLike[str] | None = None,
    **values: Any,
) -> EditResult:
    """Let a picture grow, and fill the border; every pixel of the picture stays.

    The model is loaded for this call; for many pictures load it once, and call
    `load(model).edit(image, prompt, extend={"right": "20%"})`.

    Args:
        image: a path, bytes, an array, a PIL image or a `Picture`. With no side and no `to`, its
            own transparent border is filled.
        prompt: what the border shows; empty = the eraser continues the picture.
        left, top, right, bottom: pixels that are added there, or percent of the picture's width
            or height, as '20%'.
        to: the ratio of width to height to reach, as '16:9'.
        anchor: where the picture stays while `to` is reached: 'center', 'left', 'top-left' …
        model: name or folder; None = the default for extending, without words the eraser.
        **values: as for `Engine.edit`.

    Raises:
        overpaint.errors.InvalidRequest: a value cannot be used; its `field` names it.
        overpaint.errors.OverpaintError: as for `load` and `Engine.edit`.
    """
    from overpaint.apps.wiring.models import build
    from overpaint.core.imaging import borders
    from overpaint.core.models import border_task

    grows = borders.of_keywords(left, top, right, bottom, to, anchor)
    engine = build.engine(_name_of(model), task=border_task(prompt))
    for sentence in engine.model().notices:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return engine.edit(image, prompt, extend=grows, **values)


def segment(
    image: PictureLike,
    *,
    points: Sequence[Sequence[float]] = (),
    boxes: Sequence[Sequence[float]] = (),
    words: str | None = None,
    model: str | os.PathLike[str] | None = None,
) -> list[Detection]:
    """Find things in a picture; `overpaint.detections.union` makes a mask of them.

    Args:
        image: a path, bytes, an array, a PIL image or a `Picture`.
        points: (x, y) in pixels, all of one thing.
        boxes: (left, top, right, bottom) in pixels, one thing in each.
        words: what to look for, instead of points and boxes.
        model: name or folder; None = 'grabcut' for points and boxes, which needs no weights, a
            detector for words, and 'sam2' for everything in the picture.

    Raises:
        overpaint.errors.InvalidRequest: a point or box lies outside the picture, or has another
            number of values.
        overpaint.errors.ModelNotFound: the model was not pulled.
    """
    from overpaint.apps.wiring.models import segmentation
    from overpaint.engine.intake import as_picture
    from overpaint.segmenters.segmenter import Hints

    hints = Hints.of(points, boxes, words)
    return segmentation.segment(as_picture(image), hints, model=_name_of(model))


def _name_of(model: str | os.PathLike[str] | None) -> str | None:
    """A model's name, or the path of its folder as text."""
    from overpaint.core.errors import InvalidRequest

    if model is not None and not isinstance(model, str | os.PathLike):
        raise InvalidRequest(f"{model!r} is neither a name nor a path", field="model")
    return model if model is None else os.fspath(model)


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: importing torch takes seconds."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'overpaint' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

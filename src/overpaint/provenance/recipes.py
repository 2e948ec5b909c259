"""Recipes: plain data from which the same picture can be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS, EditRequest
from overpaint.core.version import __version__

REWRITING = "rewriting"
"""Key of what a recipe says of a prompt that was rewritten; `wish` in it are the caller's words."""


def recipe(
    request: EditRequest,
    *,
    model: Mapping[str, Any],
    options: Mapping[str, Any],
    seeds: Sequence[int],
    rewriting: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """JSON-able record of what was asked and of what made it.

    Args:
        request: as it was run.
        model: name, family, revision, dtype and device of the model.
        options: every option of the family with its value, defaults included.
        seeds: one per image.
        rewriting: who wrote the prompt, and of which wish; None = the caller did.
    """
    words = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "text"}
    return {
        "overpaint": __version__,
        "model": dict(model),
        **words,
        **({} if request.extend is None else {"extend": request.extend.as_json()}),
        **({} if rewriting is None else {REWRITING: dict(rewriting)}),
        "seeds": list(seeds),
        "options": dict(options),
        "inputs": {
            part.name: _digest_of(getattr(request, part.name)) for part in PARTS if part.is_visual
        },
    }


def _digest_of(value: Any) -> Any:
    if isinstance(value, Picture):
        return value.sha256
    return [digest(each) for each in value] if isinstance(value, tuple) else digest(value)


def digest(image: Image.Image | None) -> str | None:
    """sha256 of mode, size and pixels of a mask, control picture or reference."""
    if image is None:
        return None
    head = f"{image.mode}:{image.width}x{image.height}:".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()

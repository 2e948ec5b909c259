"""Recipes: plain data from which the same picture can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS, EditRequest
from overpaint.core.version import __version__

REWRITING = "rewriting"
"""Key of a recipe's record of a rewritten prompt; `wish` in it has the caller's words."""

FOUND = "target_found"
"""Key of a recipe's record of a thing that was looked for because the instruction names it."""


def recipe(
    request: EditRequest,
    *,
    model: Mapping[str, Any],
    options: Mapping[str, Any],
    seeds: Sequence[int],
    measures: Sequence[Mapping[str, Any]] = (),
    rewriting: Mapping[str, str] | None = None,
    target: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """JSON-able record of what was asked and of what made it.

    Args:
        request: as it was run.
        model: name, family, revision, dtype and device of the model.
        options: every option of the family with its value, defaults included.
        seeds: one per image.
        measures: of each image; they describe it, and had no part in making it.
        rewriting: who wrote the prompt, and of which wish; None = the caller did.
        target: who found what the instruction names, by which words; None = it was not needed.
    """
    words = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "text"}
    return {
        "overpaint": __version__,
        "model": dict(model),
        **words,
        **({} if request.extend is None else {"extend": request.extend.as_json()}),
        **({} if rewriting is None else {REWRITING: dict(rewriting)}),
        **({} if target is None else {FOUND: dict(target)}),
        "seeds": list(seeds),
        "options": dict(options),
        "inputs": {
            part.name: _digest_of(getattr(request, part.name)) for part in PARTS if part.is_visual
        },
        "measures": [dict(each) for each in measures],
    }


def of_one(recipe: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The recipe of one of several images."""
    measures = recipe.get("measures", [])[index : index + 1]
    return {**recipe, "seeds": [recipe["seeds"][index]], "measures": measures}


AS_BEFORE: Mapping[str, Any] = {"hold": False, "noise_from": "seed"}
"""Options by which pictures came out otherwise before there were these options."""


def options_since(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Options that are newer than a recipe's own, with what was done before there were any."""
    return {name: value for name, value in AS_BEFORE.items() if name not in recorded}


def areas_kept(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The option by which one image's edit keeps the areas that it kept, where a segmenter chose.

    Args:
        recipe: of one image; what it lacks may be missing.
    """
    areas = [area for each in recipe.get("measures") or () for area in each.get("areas", ())]
    if recipe.get(FOUND) is None or not areas:
        return {}
    return {"keep_areas": [n for n, area in enumerate(areas, start=1) if area["kept"]]}


def differ_in_areas_alone(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two edits have the same picture from their model: only what is put back differs."""
    return _of_model(one) == _of_model(other)


def _of_model(recipe: Mapping[str, Any]) -> str:
    """What of a recipe makes the model's own picture, as text: files keep tuples as lists."""
    parts = {key: value for key, value in recipe.items() if key not in ("measures", FOUND)}
    for key, name in (("options", "keep_areas"), ("inputs", "target")):
        parts[key] = {each: value for each, value in recipe[key].items() if each != name}
    return json.dumps(parts, sort_keys=True)


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

"""A value of each part of an edit, for tests that hold every way in against `PARTS`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from overpaint.apps.wiring.models import families
from overpaint.core.imaging.borders import Borders
from overpaint.core.parts import Part
from overpaint.core.types import FAMILY_PARTS
from overpaint.diffusion.family import FamilySpec
from tests.conftest import box_mask, picture

SIZE = (64, 48)

SPECS = {spec.name: spec for spec in families.importable()}

FAMILIES_AND_PARTS = [
    pytest.param(spec, part, id=f"{spec.name}-{part.name}")
    for spec in SPECS.values()
    for part in FAMILY_PARTS
]


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sample(part: Part, size: tuple[int, int] = SIZE) -> Any:
    """A value of a part: PIL images where it is visual, else plain data."""
    if part.kind == "mask":
        left = {"copy_from": 0, "not_from": 8}.get(part.name, 20)
        return box_mask(*size, box=(left, 8, left + 12, 30))
    if part.kind == "picture":
        return picture(*size, seed=len(part.name))
    if part.kind == "pictures":
        return (picture(*size, seed=5), picture(*size, seed=6))
    if part.kind == "choice":
        return part.choices[0]
    if part.kind == "borders":
        return Borders(left=8, bottom=4)
    return {"text": f"words of {part.name}", "number": 7, "options": {}}[part.kind]


def plain(value: Any) -> Any:
    """A value as JSON has it, where it is not a picture."""
    return value.as_json() if isinstance(value, Borders) else value


def needed(spec: FamilySpec, part: Part) -> Iterator[Part]:
    """The parts of an edit that shows whether a family takes that part."""
    for each in FAMILY_PARTS:
        if each == part or spec.need(each.name) == "required":
            yield each


def as_files(part: Part, folder: Path) -> Any:
    """The sample of a part, pictures as names of files in that folder."""
    value = sample(part)
    if not part.is_visual:
        return value
    several = value if part.kind == "pictures" else (value,)
    names = [f"{part.name}-{number}.png" for number in range(len(several))]
    for name, image in zip(names, several, strict=True):
        image.save(folder / name)
    return names if part.kind == "pictures" else names[0]

"""What a picture says about how it was made, and whether that holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidSettings
from overpaint.core.imaging.images import Picture
from overpaint.provenance import credentials, marks, watermark, xmp

_CLAIMS = ("digital_source_type", "recipe", "credentials", "watermark")


def facts(picture: Picture, trust: Path | None = None) -> dict[str, Any]:
    """What a picture says, as plain data.

    Args:
        picture: decoded from a file.
        trust: certificates in PEM of those whose signatures are trusted.

    Returns:
        `digital_source_type` and `tool` as the mark has them; `trained_model`: whether one had a
        part in it; `recipe`; `unchanged`: whether the pixels are those that were made;
        `credentials`; and `watermark`: its score, scale and box. None = it does not say.

    Raises:
        InvalidSettings: the file of those who are trusted cannot be read.
        InvalidImage: the credentials are damaged beyond reading.
    """
    mark, recipe = xmp.read(picture.xmp), marks.recipe_in(picture)
    return {
        "digital_source_type": mark.source_type,
        "trained_model": None if mark.source_type is None else mark.source_type in xmp.TRAINED,
        "tool": mark.tool,
        "recipe": recipe,
        "unchanged": None if recipe is None else _unchanged(picture, recipe),
        "credentials": _credentials(picture, trust),
        "watermark": _watermark(picture),
    }


def says_nothing(values: Mapping[str, Any]) -> bool:
    """Whether a picture's facts tell nothing about its making."""
    return all(values[name] is None for name in _CLAIMS)


def _watermark(picture: Picture) -> dict[str, Any] | None:
    trace = watermark.find(picture)
    if trace is None:
        return None
    return {"score": trace.score, "scale": trace.scale, "box": trace.box.as_tuple()}


def _credentials(picture: Picture, trust: Path | None) -> dict[str, Any] | None:
    if picture.signed is None or picture.format is None:
        return None
    try:
        anchors = None if trust is None else trust.read_bytes()
    except OSError as error:
        raise InvalidSettings(
            f"{trust} cannot be read: {error.strerror}", field="provenance.trust"
        ) from error
    credential = credentials.read(picture.signed, picture.format, anchors)
    return None if credential is None else vars(credential)


def _unchanged(picture: Picture, recipe: Mapping[str, Any]) -> bool | None:
    """Whether the pixels are those that were made; lossy files cannot tell."""
    if recipe.get("picture") == picture.sha256:
        return True
    return False if picture.format == "PNG" else None

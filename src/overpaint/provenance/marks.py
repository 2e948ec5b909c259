"""The marks that a result's file carries.

A mark is XMP, with IPTC's DigitalSourceType: what the EU's AI Act (article 50) and platforms ask of
pictures that a trained model had a part in. With a signer the file also gets content credentials
(C2PA), which say the same so that it can be checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from overpaint.core.imaging import images
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS
from overpaint.core.version import __version__
from overpaint.provenance import recipes, watermark, xmp
from overpaint.provenance.sealing import Seal, Signer
from overpaint.provenance.xmp import SourceType

_PROMPTS = (*(part.name for part in PARTS if part.kind == "text"), recipes.REWRITING)
_MODEL = ("name", "family", "revision")
_NAMESPACE = "overpaint"


@dataclass(frozen=True, kw_only=True)
class Marking:
    """What the files of results say about themselves.

    Attributes:
        source_type: whether they carry the digital source type.
        recipe: whether they carry the recipe.
        watermark: whether what a trained model made in them has an invisible watermark.
        prompt: whether recipe and credentials have the prompts; they can be personal.
        signer: who signs their content credentials; None = they carry none.
    """

    source_type: bool = True
    recipe: bool = False
    watermark: bool = False
    prompt: bool = False
    signer: Signer | None = None


def marked(
    picture: Picture,
    marking: Marking,
    *,
    source_type: SourceType,
    source: Picture,
    canvas: Picture,
    model: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
) -> Picture:
    """The picture with its mark beside the input's other XMP properties.

    Args:
        picture: a result.
        marking: what it says.
        source_type: of what the family does.
        source: the input. A picture that a trained model made keeps saying so, whatever is done
            to it afterwards.
        canvas: the input as it was edited: with its border, where it grew.
        model: its record.
        recipe: of this picture alone; None = it is unfinished.
    """
    watermarks = marking.watermark and source_type in xmp.TRAINED
    if watermarks and recipe is not None:
        picture = watermark.embed(picture, canvas)
    earlier = xmp.read(source.xmp).source_type
    stays = earlier in xmp.TRAINED and source_type not in xmp.TRAINED
    claim = earlier if stays else source_type
    mark = xmp.Mark(
        source_type=claim if marking.source_type else None,
        tool=f"Overpaint {__version__}" if marking.source_type else None,
        record=_record(picture, recipe, marking) if marking.recipe and recipe else None,
    )
    return replace(
        picture,
        xmp=_packet(mark, source.xmp),
        signed=None,
        seal=None if marking.signer is None else _seal(marking, source_type, source, model, recipe),
    )


def recipe_in(picture: Picture) -> dict[str, Any] | None:
    """The recipe that a picture carries, with 'picture': the hash it had when it was made."""
    record = xmp.read(picture.xmp).record
    try:
        recipe = json.loads(record or "null")
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def losses(source: Picture) -> list[str]:
    """What an edit cannot keep of the input's metadata, one sentence each."""
    if source.xmp is None or xmp.inherited(source.xmp) is not None:
        return []
    return [
        f"image: its XMP of {len(source.xmp):,} bytes is damaged or too much to keep, so the "
        "result has none of it"
    ]


def _packet(mark: xmp.Mark, source: bytes | None) -> bytes | None:
    properties = xmp.inherited(source)
    if properties is None or not properties.size:
        return xmp.write(mark) if mark != xmp.Mark() else None
    return xmp.write(mark, source)


def _record(picture: Picture, recipe: Mapping[str, Any], marking: Marking) -> str:
    record = {**recipe, "picture": picture.sha256}
    if marking.watermark:
        record["watermark"] = True
    if not marking.prompt:
        # An empty one stays, so that a missing one is known to have been left out.
        record = {key: value for key, value in record.items() if not (key in _PROMPTS and value)}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _seal(
    marking: Marking,
    source_type: SourceType,
    source: Picture,
    model: Mapping[str, Any],
    recipe: Mapping[str, Any] | None,
) -> Seal:
    assert marking.signer is not None
    parameters = {name: model[name] for name in _MODEL if model.get(name) is not None}
    if marking.prompt and recipe is not None:
        parameters |= {name: recipe[name] for name in _PROMPTS if isinstance(recipe.get(name), str)}
    return Seal(
        signer=marking.signer,
        tool=("Overpaint", __version__),
        source_type=source_type,
        parameters={f"{_NAMESPACE}.{name}": value for name, value in parameters.items()},
        parent=_parent(source),
    )


def _parent(source: Picture) -> tuple[bytes, FileFormat] | None:
    """The input's file where that has credentials, or gets them as a result made here."""
    if source.signed is not None and source.format is not None:
        return source.signed, source.format
    if source.seal is not None:
        return images.encode(source), "PNG"
    return None

"""From a request to a checked one, for every way in: held against its family, once per edit.

`check` parses its options and draws its seeds. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from overpaint.core import plain_values
from overpaint.core.errors import InvalidMask, InvalidRequest, UnsupportedOption
from overpaint.core.imaging import masks
from overpaint.core.imaging.images import Picture
from overpaint.core.languages import is_foreign
from overpaint.core.parts import Part
from overpaint.core.types import FAMILY_PARTS, MAX_SEED, PARTS, EditRequest
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine import canvas

MAX_IMAGES = 64
MOST_SHADES = 16
"""Shades of grey of a picture that may be a mask as well."""

READING_SHIFTS = 16
"""By how many of 255 reading a picture as a mask may change its values."""

OPEN_STEPS = 50
"""Of an edit whose checkpoint settles how many it makes: the most that any does by default."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedRequest:
    """A request that its family takes.

    Attributes:
        request: what is asked for.
        options: parsed.
        seeds: one per image.
        warnings: what was understood differently from what a caller may expect.
    """

    request: EditRequest
    options: FamilyOptions
    seeds: tuple[int, ...]
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Denoising steps of each image, about."""
        return denoising_steps(self.options)

    @property
    def noise_seeds(self) -> tuple[int, ...]:
        """The seeds that the noise of each image is drawn from.

        A model that edits a picture starts from noise; where that is the noise that made the
        picture, it finds the picture in it again and follows no instruction. A session that is
        given one seed for all turns would do that. So a turn's noise comes from its seed and from
        the picture that it edits.
        """
        if self.options.noise_from == "seed":
            return self.seeds
        picture = self.request.image.sha256
        return tuple(_mixed(seed, picture) for seed in self.seeds)


def check(family: FamilySpec, request: EditRequest) -> CheckedRequest:
    """Hold a request against its family.

    Raises:
        InvalidRequest: with the field, the value and the way out.
    """
    options = parse_options(family, request.options)
    canvas.check(family, request, options)
    check_parts(family, request)
    for part in FAMILY_PARTS:
        if part.kind == "mask" and part.name != "mask":
            _check_second_mask(part, getattr(request, part.name), request.image.size)
    if not 1 <= request.num_images <= MAX_IMAGES:
        raise InvalidRequest(
            f"{request.num_images} is not between 1 and {MAX_IMAGES}", field="num_images"
        )
    warnings = _foreign_syntax(request)
    if request.mask is not None:
        warnings += masks.check(request.mask, request.image.size)
        _check_not_the_picture(request.mask, request.image)
    has_mask = request.mask is not None or request.extend is not None
    if request.target is not None and (has_mask or not options.uses_target):
        warnings.append(
            "target: it has no effect with a mask or a border, nor with hold=false, "
            "keep_unchanged=false or keep_areas"
        )
    return CheckedRequest(
        request=request, options=options, seeds=_seeds(request), warnings=tuple(warnings)
    )


def parse_options(family: FamilySpec, values: Mapping[str, Any]) -> FamilyOptions:
    """The family's options from plain values.

    Raises:
        UnsupportedOption: one is unknown or has a wrong value.
    """
    try:
        return family.options(**values)
    except ValidationError as error:
        raise _option_error(family, error) from error


def denoising_steps(options: FamilyOptions) -> int:
    """Denoising steps of an image, about; 0 for families that make none.

    Steps that are left to the checkpoint count as `OPEN_STEPS` until it is loaded.
    """
    steps = getattr(options, "num_inference_steps", 0)
    if steps is None:
        steps = OPEN_STEPS
    return max(1, round(steps * getattr(options, "strength", 1.0))) if steps else 0


def _option_error(family: FamilySpec, error: ValidationError) -> UnsupportedOption:
    first = plain_values.first_error(error)
    name = ".".join(str(part) for part in first["loc"]) or "options"
    if first["type"] == "extra_forbidden":
        names = sorted(family.options.model_fields)
        near = difflib.get_close_matches(name, [*names, *(part.name for part in PARTS)], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        message = f"{family.name} has no such option{hint}; it has: {', '.join(names)}"
    else:
        message = plain_values.complaint(first)
    return UnsupportedOption(message, field=f"options.{name}")


_SYNTAX = re.compile(r"<lora:[^>]*>|\([^()]*:\d+(?:\.\d+)?\)")
"""Adapters and weights of words, as other programs read them in a prompt."""


def _foreign_syntax(request: EditRequest) -> list[str]:
    """A sentence for each text that uses another program's syntax."""
    texts = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "text"}
    return [
        f"{name}: '{match[0]}' is read as plain words, because adapters belong to the model, and "
        "words have no weights"
        for name, text in texts.items()
        if text and (match := _SYNTAX.search(text))
    ]


def unread(family: FamilySpec, request: EditRequest) -> list[str]:
    """A sentence for each text in letters that the family's text encoder does not know."""
    if not family.reads_english_only:
        return []
    texts = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "text"}
    return [
        f"{name}: {family.name} reads English, and '{text[:60]}' is in other letters; write it in "
        "English, or let a chat model do so ([rewriter] in the settings)"
        for name, text in texts.items()
        if text and is_foreign(text)
    ]


_MISSING = {
    "mask": "{family} needs a mask: what should be repainted?",
    "prompt": "is empty; say what the result should show (to remove something, use erase)",
}


def check_parts(family: FamilySpec, request: EditRequest) -> None:
    """Hold the parts of a request against its family; a border that is filled needs no mask.

    Raises:
        InvalidRequest: the family needs a part that is missing, or cannot use one.
    """
    for part in FAMILY_PARTS:
        if part.name != "mask" or request.mask is not None or request.extend is None:
            check_part(family, part, getattr(request, part.name))


def check_part(family: FamilySpec, part: Part, value: Any) -> None:
    """Refuse what a family cannot use, so that nothing is dropped in silence, and what it lacks.

    Args:
        family: the model's.
        part: one of `FAMILY_PARTS`.
        value: as of an `EditRequest`; None or empty = it is not there.

    Raises:
        InvalidRequest: the field is the part's name.
    """
    need = family.need(part.name)
    is_missing = value is None or value in ("", ()) or (part.kind == "text" and not value.strip())
    if need == "required" and is_missing:
        error = InvalidMask if part.kind == "mask" else InvalidRequest
        lack = _MISSING.get(part.name, "{family} needs it")
        raise error(lack.format(family=family.name), field=part.name)
    if need == "refused" and not is_missing:
        raise InvalidRequest(f"{family.name} cannot use it; leave it out", field=part.name)


def _check_not_the_picture(mask: Image.Image, picture: Picture) -> None:
    """Refuse a picture that is given as its own mask, inverted or not; one of few shades may be."""
    few = (min(64, mask.width), min(64, mask.height))
    shades, marks = (
        np.asarray(each.resize(few, Image.Resampling.NEAREST)).astype(np.int16)
        for each in (picture.own_image().convert("L"), mask)
    )
    if min(np.abs(shades - marks).max(), np.abs(255 - shades - marks).max()) > READING_SHIFTS:
        return
    if len(np.unique(shades)) > MOST_SHADES:
        raise InvalidMask(
            "it is the picture itself; give a mask that is white where the picture is repainted",
            field="mask",
        )


_EMPTY = {"copy_from": "what may be copied", "target": "the thing that the instruction names"}
"""What a mask beside the mask marks, for the message about an empty one."""


def _check_second_mask(part: Part, mask: Image.Image | None, size: tuple[int, int]) -> None:
    """A mask beside the mask: of the picture's size, and not empty where it says 'only here'."""
    if mask is None:
        return
    if mask.mode != "L":
        raise InvalidMask(f"it has the mode {mask.mode!r}; convert it to 'L'", field=part.name)
    masks.check_size(mask, size, field=part.name)
    lack = _EMPTY.get(part.name)
    if lack is not None and mask.getbbox() is None:
        raise InvalidMask(f"it marks nothing; paint white {lack}", field=part.name)


def _seeds(request: EditRequest) -> tuple[int, ...]:
    first = request.seed
    if first is None:
        first = secrets.randbelow(2**32)
    last = first + request.num_images - 1
    if first < 0 or last > MAX_SEED:
        raise InvalidRequest(f"{request.seed} is not between 0 and {MAX_SEED}", field="seed")
    return tuple(range(first, last + 1))


def _mixed(seed: int, picture: str) -> int:
    digest = hashlib.sha256(f"{seed}:{picture}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (MAX_SEED + 1)

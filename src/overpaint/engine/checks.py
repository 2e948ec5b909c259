"""What a request must fulfil before anything is computed."""

from __future__ import annotations

import difflib
import secrets
from typing import Any

from pydantic import ValidationError

from overpaint.core import masks
from overpaint.core.errors import InvalidMask, InvalidRequest, UnsupportedOption
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import FamilySpec, Need
from overpaint.diffusion.options import FamilyOptions

MAX_IMAGES = 64
MAX_SEED = 2**63 - 1


def check(
    family: FamilySpec, request: EditRequest
) -> tuple[FamilyOptions, tuple[int, ...], list[str]]:
    """Check a request against its family.

    Returns:
        The parsed options, one seed per image, and warnings.

    Raises:
        InvalidRequest: with the field, the value and the way out.
    """
    options = parse_options(family, request.options)
    _check_parts(family, request)
    warnings = []
    if request.mask is not None:
        warnings += masks.check(request.mask, request.image.size)
    return options, _seeds(request), warnings


def parse_options(family: FamilySpec, given: Any) -> FamilyOptions:
    """The family's options from plain values."""
    try:
        return family.options(**given)
    except ValidationError as error:
        raise _option_error(family, error) from error


def _option_error(family: FamilySpec, error: ValidationError) -> UnsupportedOption:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "options"
    if first["type"] == "extra_forbidden":
        known = sorted(family.options.model_fields)
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        message = f"{family.name} has no such option{meant}; it has: {', '.join(known)}"
    else:
        message = f"{first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return UnsupportedOption(message, field=f"options.{name}")


def _check_parts(family: FamilySpec, request: EditRequest) -> None:
    if family.need("mask") == "required" and request.mask is None:
        raise InvalidMask(f"{family.name} needs a mask: what shall be repainted?", field="mask")
    _check_text(family, "prompt", family.need("prompt"), request.prompt.strip())
    for field in ("negative_prompt", "control", "references", "copy_from", "not_from"):
        _refuse(family, field, family.need(field), getattr(request, field))
    for field in ("copy_from", "not_from"):
        _check_source(request, field)
    if not 1 <= request.num_images <= MAX_IMAGES:
        raise InvalidRequest(
            f"{request.num_images} is not between 1 and {MAX_IMAGES}", field="num_images"
        )


def _check_text(family: FamilySpec, field: str, need: Need, text: str) -> None:
    if need == "required" and not text:
        raise InvalidRequest(
            "is empty; say what the result shall show (to remove something, use erase)",
            field=field,
        )
    _refuse(family, field, need, text)


def _refuse(family: FamilySpec, field: str, need: Need, value: Any) -> None:
    """Refuse what the family cannot use, so that nothing is dropped in silence."""
    if need == "refused" and value not in (None, "", ()):
        raise InvalidRequest(f"{family.name} cannot use it; leave it out", field=field)


def _check_source(request: EditRequest, field: str) -> None:
    """A mask of what may be copied: of the picture's size, and not empty where it is needed."""
    mask = getattr(request, field)
    if mask is None:
        return
    if mask.mode != "L":
        raise InvalidMask(f"it has the mode {mask.mode!r}; convert it to 'L'", field=field)
    masks.check_size(mask, request.image.size, field=field)
    if field == "copy_from" and mask.getbbox() is None:
        raise InvalidMask("it marks nothing; paint white what may be copied", field=field)


def _seeds(request: EditRequest) -> tuple[int, ...]:
    first = request.seed
    if first is None:
        first = secrets.randbelow(2**32)
    last = first + request.num_images - 1
    if first < 0 or last > MAX_SEED:
        raise InvalidRequest(f"{request.seed} is not between 0 and {MAX_SEED}", field="seed")
    return tuple(range(first, last + 1))

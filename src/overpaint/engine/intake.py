"""The one way from values to a checked request, for every way in.

Values are a mapping of the parts that `EditRequest` declares, in whatever form people have them.
`request_of` decodes them by their kind; `check` holds the request against a family, parses its
options and draws its seeds, once per edit. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from overpaint.core.errors import InvalidMask, InvalidRequest, UnsupportedOption
from overpaint.core.imaging import annotation_files, borders, detections, images, masks
from overpaint.core.imaging.codecs import reading
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.imaging.morphology import fit
from overpaint.core.parts import MaskReading, Part
from overpaint.core.types import FAMILY_PARTS, MAX_SEED, PARTS, EditRequest
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine import canvas

PictureLike = Picture | Image.Image | NDArray[Any] | bytes | str | os.PathLike[str]
"""A picture: decoded, a PIL image, an array (H, W[, C]), encoded bytes, or a file's path."""

MaskLike = Any
"""What `as_mask` reads."""

MAX_IMAGES = 64
MOST_SHADES = 16
"""Shades of grey of a picture that may be a mask as well."""

READING_SHIFTS = 16
"""By how many of 255 reading a picture as a mask may change its values."""

OPEN_STEPS = 50
"""Of an edit whose checkpoint settles how many it makes: the most that any does by default."""

_NO_LIMITS = ImageLimits()
_BY_NAME = {part.name: part for part in PARTS}

_F = TypeVar("_F", bound=Callable[..., Any])


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


def request_of(
    values: Mapping[str, Any],
    *,
    limits: ImageLimits = _NO_LIMITS,
    fit_mask: bool = False,
    reads_canvas: bool = False,
) -> EditRequest:
    """An edit of parts by name; those that are missing or None are left out.

    Args:
        values: pictures and masks as files, bytes, arrays, PIL images or `Picture`; words; numbers.
        limits: what each picture may cost before it is decoded.
        fit_mask: stretch a mask of another size to the picture's, instead of refusing it later.
        reads_canvas: let a picture grow that brings its own border, as `borders.is_canvas` says.

    Raises:
        InvalidRequest: a value cannot be used; its `field` names the part.
    """
    for name in values:
        if name not in _BY_NAME:
            raise InvalidRequest(
                f"there is no such part of an edit; known are {', '.join(_BY_NAME)}", field=name
            )
    present = {name: value for name, value in values.items() if value is not None}
    for part in PARTS:
        if part.required and part.name not in present:
            raise InvalidRequest("it is missing", field=part.name)
    image = decoded(_BY_NAME["image"], present.pop("image"), limits=limits)
    reads = _reading(present)
    parts = {
        name: decoded(_BY_NAME[name], value, image.size, limits=limits, reads=reads)
        for name, value in present.items()
    }
    if fit_mask and "mask" in parts:
        parts["mask"] = fit(parts["mask"], image.size)
    if reads_canvas and "extend" not in parts and borders.is_canvas(image, parts.get("mask")):
        parts["extend"] = borders.Borders()
    return EditRequest(image=image, **parts)


def _reading(present: dict[str, Any]) -> MaskReading | None:
    """How the mask is read, taken out of the parts: once it is read, nobody asks again."""
    if "mask_is" not in present:
        return None
    if "mask" not in present:
        raise InvalidRequest("there is no mask to read; leave it out", field="mask_is")
    reads: MaskReading = present.pop("mask_is")
    return reads


def split(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a call as parts: what is no part is an option of the family."""
    parts = {name: value for name, value in values.items() if name in _BY_NAME}
    options = {name: value for name, value in values.items() if name not in _BY_NAME}
    return {**parts, "options": {**_as_mapping(parts.get("options") or {}), **options}}


def _as_mapping(options: Any) -> Any:
    """Typed options by name, those that were set; others as they are."""
    if isinstance(options, FamilyOptions):
        return {name: getattr(options, name) for name in options.model_fields_set}
    return options


def takes_parts(function: _F) -> _F:
    """Show the parts of an edit in the signature of a function that takes them as `**values`."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    known = {each.name for each in own} | {"options"}
    parts = [
        inspect.Parameter(part.name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for part in PARTS
        if part.name not in known
    ]
    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=sorted([*own, *parts, options], key=lambda each: each.kind)
    )
    return function


def as_picture(
    value: PictureLike, field: str = "image", *, limits: ImageLimits = _NO_LIMITS
) -> Picture:
    """Whatever people have, as a `Picture`.

    Raises:
        InvalidImage: it cannot be read.
        InvalidRequest: it is not a picture.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, Image.Image):
        return Picture.from_pil(value, field=field)
    if isinstance(value, np.ndarray):
        return Picture.from_array(value, field=field)
    if isinstance(value, bytes | str | os.PathLike):
        return images.decode(value, field=field, limits=limits)
    raise InvalidRequest(f"a value of type {type(value).__name__} is not a picture", field=field)


def as_mask(
    value: MaskLike,
    field: str = "mask",
    *,
    size: tuple[int, int] | None = None,
    limits: ImageLimits = _NO_LIMITS,
    reads: MaskReading | None = None,
    picture: str | None = None,
) -> Image.Image:
    """Whatever people have, as an 'L' mask, 255 = repaint.

    Args:
        value: a picture of it; a torch tensor or rows of numbers; what a segmentation model found
            (`supervision.Detections`, COCO run lengths, what SAM's generators return, Roboflow's
            predictions); a file of annotations (`imaging.annotation_files`).
        field: name of the field in errors.
        size: (width, height) of the picture that it is for; detections need it.
        limits: what a file may cost before it is decoded.
        reads: how a picture of it is read; None = as what it evidently is.
        picture: name of the file of the picture that it is for, to choose by in annotations.

    Raises:
        InvalidMask: it cannot be read.
        InvalidRequest: it is not a mask.
    """
    if reads is not None:
        _choice(_BY_NAME["mask_is"], reads)
    if isinstance(value, Picture):
        value = value.to_pil()
    if isinstance(value, Image.Image):
        return masks.from_pil(value, reads, field=field)
    if isinstance(value, bytes | str | os.PathLike):
        encoded = reading.bytes_of(value, field, limits.max_bytes)
        if size is None or not annotation_files.are_in(encoded):
            return images.decode_mask(encoded, field=field, limits=limits, reads=reads)
        value = annotation_files.parse(encoded, size, picture=picture, field=field)
    if reads is not None:
        raise InvalidRequest(
            f"a value of type {type(value).__name__} is not a picture, so this does not "
            "apply; leave it out",
            field="mask_is",
        )
    return _of_values(value, field, size)


def _of_values(value: Any, field: str, size: tuple[int, int] | None) -> Image.Image:
    """A mask of numbers, or of what a segmentation model found."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, list | tuple) and _are_rows(value):
        value = _rows(value, field)
    if isinstance(value, np.ndarray):
        return masks.from_array(value, field=field)
    if size is not None and isinstance(value, Mapping) and "counts" in value:
        return masks.from_coco_rle(value, size, field=field)
    if size is not None and detections.are_detections(value):
        things = detections.parse(value, size, field=field)
        return detections.union(things, size, field=field)
    raise InvalidRequest(f"a value of type {type(value).__name__} is not a mask", field=field)


def _are_rows(value: Sequence[Any]) -> bool:
    return bool(value) and not isinstance(value[0], Mapping | detections.Detection)


def _rows(value: Sequence[Any], field: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidMask("its rows have different lengths", field=field) from error


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


def decoded(
    part: Part,
    value: Any,
    size: tuple[int, int] | None = None,
    *,
    limits: ImageLimits = _NO_LIMITS,
    reads: MaskReading | None = None,
) -> Any:
    """A part's value as `EditRequest` has it.

    Args:
        part: which.
        value: in any form.
        size: (width, height) of the picture that is edited; detections and borders need it.
        limits: what a file, or a picture that grows, may cost.
        reads: how a picture of `mask` is read; None = as what it evidently is.

    Raises:
        InvalidRequest: it cannot be used; its `field` names the part.
    """
    if part.kind == "mask":
        own = reads if part.name == "mask" else None
        return as_mask(value, part.name, size=size, limits=limits, reads=own)
    if part.kind == "borders":
        assert size is not None
        return borders.parse(value, size, most_pixels=limits.max_pixels)
    if part.kind == "pictures":
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            value = (value,)
        return tuple(as_picture(each, part.name, limits=limits).to_srgb() for each in value)
    if part.kind == "picture":
        picture = as_picture(value, part.name, limits=limits)
        return picture if part.required else picture.to_srgb()
    return _plain(part, value)


def _plain(part: Part, value: Any) -> Any:
    value = _as_mapping(value)
    if part.kind == "choice":
        return _choice(part, value)
    expected = {"text": str, "name": str, "number": int, "options": Mapping}[part.kind]
    if part.kind == "number" and isinstance(value, float | str) and _is_whole(value):
        value = int(float(value)) if isinstance(value, float) else int(value)
    if not isinstance(value, expected) or isinstance(value, bool):
        wanted = {"number": "a whole number", "options": "a mapping"}.get(part.kind, "text")
        raise InvalidRequest(f"{value!r} is not {wanted}", field=part.name)
    return value


def _choice(part: Part, value: Any) -> Any:
    if value not in part.choices:
        raise InvalidRequest(f"{value!r} is not one of {', '.join(part.choices)}", field=part.name)
    return value


def _is_whole(value: float | str) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return value.strip().removeprefix("-").isdecimal()


def _option_error(family: FamilySpec, error: ValidationError) -> UnsupportedOption:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "options"
    if first["type"] == "extra_forbidden":
        known = sorted(family.options.model_fields)
        near = difflib.get_close_matches(name, [*known, *_BY_NAME], n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        message = f"{family.name} has no such option{meant}; it has: {', '.join(known)}"
    else:
        message = f"{first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return UnsupportedOption(message, field=f"options.{name}")


_SYNTAX = re.compile(r"<lora:[^>]*>|\([^()]*:\d+(?:\.\d+)?\)")
"""Adapters and weights of words, as other programs read them in a prompt."""


def _foreign_syntax(request: EditRequest) -> list[str]:
    """A sentence for each text that uses another program's syntax."""
    texts = {part.name: getattr(request, part.name) for part in PARTS if part.kind == "text"}
    return [
        f"{name}: '{match[0]}' is read as plain words, because adapters belong to the "
        "model, and words have no weights"
        for name, text in texts.items()
        if text and (match := _SYNTAX.search(text))
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


def _check_second_mask(part: Part, mask: Image.Image | None, size: tuple[int, int]) -> None:
    """A mask beside the mask: of the picture's size, and not empty where it says 'only here'."""
    if mask is None:
        return
    if mask.mode != "L":
        raise InvalidMask(f"it has the mode {mask.mode!r}; convert it to 'L'", field=part.name)
    masks.check_size(mask, size, field=part.name)
    if part.name == "copy_from" and mask.getbbox() is None:
        raise InvalidMask("it marks nothing; paint white what may be copied", field=part.name)


def _seeds(request: EditRequest) -> tuple[int, ...]:
    first = request.seed
    if first is None:
        first = secrets.randbelow(2**32)
    last = first + request.num_images - 1
    if first < 0 or last > MAX_SEED:
        raise InvalidRequest(f"{request.seed} is not between 0 and {MAX_SEED}", field="seed")
    return tuple(range(first, last + 1))

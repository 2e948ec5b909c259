"""The one way from values to a request, for every way in.

Values are a mapping of the parts that `EditRequest` declares, in whatever form people have them.
`request_of` decodes them by their kind; `checking` holds the request against a family. Nothing here
needs torch.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.errors import InvalidMask, InvalidRequest
from overpaint.core.imaging import annotation_files, borders, detections, images, masks
from overpaint.core.imaging.codecs import reading
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.imaging.morphology import fit
from overpaint.core.parts import MaskReading, Part
from overpaint.core.types import PARTS, EditRequest
from overpaint.diffusion.options import FamilyOptions

PictureLike = Picture | Image.Image | NDArray[Any] | bytes | str | os.PathLike[str]
"""A picture: decoded, a PIL image, an array (H, W[, C]), encoded bytes, or a file's path."""

MaskLike = Any
"""What `as_mask` reads."""

_NO_LIMITS = ImageLimits()
_BY_NAME = {part.name: part for part in PARTS}

_F = TypeVar("_F", bound=Callable[..., Any])


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
    """Take the mask's reading out of the parts: it is not needed once the mask is read."""
    if "mask_is" not in present:
        return None
    if "mask" not in present:
        raise InvalidRequest("there is no mask to read; leave it out", field="mask_is")
    reads: MaskReading = present.pop("mask_is")
    return reads


def split(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a call as parts: what is no part is an option of the family, and overrides
    `options`.

    Raises:
        InvalidRequest: `options` are not options by name.
    """
    parts = {name: value for name, value in values.items() if name in _BY_NAME}
    options = {name: value for name, value in values.items() if name not in _BY_NAME}
    named = _as_mapping(parts.get("options") or {})
    if not isinstance(named, Mapping):
        raise InvalidRequest(f"{named!r} is not a mapping of names to values", field="options")
    return {**parts, "options": {**named, **options}}


def _as_mapping(options: Any) -> Any:
    """Typed options by name, those that were set; others as they are."""
    if isinstance(options, FamilyOptions):
        return {name: getattr(options, name) for name in options.model_fields_set}
    return options


def takes_parts(function: _F) -> _F:
    """Show the parts of an edit in the signature of a function that takes them as `**values`."""
    signature = inspect.signature(function)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = {each.name for each in own} | {"options"}
    parts = [
        inspect.Parameter(part.name, inspect.Parameter.KEYWORD_ONLY, default=None)
        for part in PARTS
        if part.name not in names
    ]
    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=sorted([*own, *parts, options], key=lambda each: each.kind)
    )
    return function


def as_picture(
    value: PictureLike, field: str = "image", *, limits: ImageLimits = _NO_LIMITS
) -> Picture:
    """A `Picture` from any form that callers have.

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
    raise InvalidRequest(
        f"a value of type {type(value).__name__} is not a picture; give a path, bytes, a PIL "
        "image, a NumPy array of H x W x 1..4, or an overpaint.Picture",
        field=field,
    )


def as_mask(
    value: MaskLike,
    field: str = "mask",
    *,
    size: tuple[int, int] | None = None,
    limits: ImageLimits = _NO_LIMITS,
    reads: MaskReading | None = None,
    picture: str | None = None,
) -> Image.Image:
    """An 'L' mask, 255 = repaint, from any form that callers have.

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
        type_name = {"number": "a whole number", "options": "a mapping"}.get(part.kind, "text")
        raise InvalidRequest(f"{value!r} is not {type_name}", field=part.name)
    return value


def _choice(part: Part, value: Any) -> Any:
    if value not in part.choices:
        raise InvalidRequest(f"{value!r} is not one of {', '.join(part.choices)}", field=part.name)
    return value


def _is_whole(value: float | str) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return value.strip().removeprefix("-").isdecimal()

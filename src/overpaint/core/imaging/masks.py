"""Masks: made from any form that callers have, checked, and changed.

A mask is a PIL image of mode 'L' and of the picture's size: 255 = repaint, 0 = keep, values
between blend. Coordinates are pixels from the top left corner.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageChops, ImageStat

from overpaint.core.errors import InvalidMask
from overpaint.core.geometry import Box
from overpaint.core.imaging import mask_reading, pixels
from overpaint.core.imaging.codecs import reading
from overpaint.core.imaging.morphology import feather, fill_holes, grow, invert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from overpaint.core.parts import MaskReading

__all__ = [
    "bbox",
    "check",
    "check_size",
    "combine",
    "coverage",
    "feather",
    "fill_holes",
    "from_alpha",
    "from_array",
    "from_boxes",
    "from_coco_rle",
    "from_detections",
    "from_pil",
    "from_polygons",
    "grow",
    "invert",
    "of_raw",
]

_NEARLY_ALL = 0.9
_LOSSY = ("JPEG", "HEIF", "AVIF")
_FARTHEST = 1e6  # of a coordinate, in pixels; what lies beyond is a mistake


def from_pil(
    image: Image.Image, reads: MaskReading | None = None, *, field: str = "mask"
) -> Image.Image:
    """The mask that an image of any mode shows.

    White is repainted, black stays; of an image with a transparent and an opaque part the
    transparency counts, and paint on an empty or black layer is repainted (`mask_reading`). EXIF
    orientation is applied as it is to pictures; colour profiles are ignored; 16-bit values are
    scaled.

    Args:
        image: of the mask.
        reads: how to read it; None = as what it evidently is.
        field: name of the field in errors.

    Raises:
        InvalidMask: the image is empty, a float is not a number, or it could mean two things.
    """
    if not image.width or not image.height:
        raise InvalidMask("The mask has no pixels.", field=field)
    try:
        raw = reading.raw_of(pixels.split(image), image.info, None)
    except (ValueError, OSError) as error:
        raise InvalidMask(f"The mask cannot be read: {error}.", field=field) from error
    return of_raw(raw, reads, field=field)


def of_raw(
    raw: reading.Raw, reads: MaskReading | None = None, *, field: str = "mask"
) -> Image.Image:
    """As `from_pil`, from a file that `reading` has read; `info` says if that was not obvious."""
    colours = _small_values(raw.planes) or raw.planes.colours
    colours = colours if colours.mode == "L" else colours.convert("RGB")
    is_lossy = raw.format in _LOSSY
    mask, note = mask_reading.read(colours, raw.planes.alpha, reads, is_lossy=is_lossy, field=field)
    mask = mask.copy()
    if note is not None:
        mask.info[mask_reading.NOTE] = note
    return mask


def _small_values(planes: pixels.Planes) -> Image.Image | None:
    """The values of a grey 16-bit image that holds nothing above 255: they are 8-bit ones."""
    if planes.deep is None or planes.colours.mode != "L" or planes.deep[..., 0].max() > 255:
        return None
    return Image.fromarray(np.ascontiguousarray(planes.deep[..., 0]).astype(np.uint8))


def from_alpha(image: Image.Image, *, field: str = "mask") -> Image.Image:
    """The mask in an image's transparency: alpha 0 = repaint, alpha 255 = keep.

    This is the convention of OpenAI's image API, where one erases what is to be edited. A layer on
    which one has painted what is to be edited is the other way round: `invert` it.

    Raises:
        InvalidMask: the image has no transparency.
    """
    alpha = pixels.split(image).alpha
    if alpha is None:
        raise InvalidMask(
            f"An image of mode {image.mode!r} has no transparency to make a mask from; use its "
            "brightness instead.",
            field=field,
        )
    return invert(alpha)


def from_array(array: NDArray[Any], *, field: str = "mask") -> Image.Image:
    """A mask from an array H x W (or H x W x 1).

    Args:
        array: bool, integers (0 and 1 alone, or 0..255), uint16 (0..65535 where a value is above
            255), or floats in 0..1.
        field: name of the field in errors.

    Raises:
        InvalidMask: another shape, type or range; NaN.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 or not array.size:
        raise InvalidMask(
            f"An array of shape {array.shape} is not a mask; give H x W values.", field=field
        )
    if array.dtype.kind in "iu" and (array.dtype != np.uint16 or array.max() <= 255):
        if array.min() < 0 or array.max() > 255:
            raise InvalidMask(
                f"The values reach from {array.min()} to {array.max()}; give 0..255.", field=field
            )
        array = array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.max() <= 1:
        array = array.astype(np.bool_)
    try:
        return Image.fromarray(np.ascontiguousarray(pixels.to_uint8(array)))
    except ValueError as error:
        raise InvalidMask(f"The array is not a mask: {error}.", field=field) from error


def from_boxes(
    boxes: Iterable[Sequence[float]] | NDArray[Any],
    size: tuple[int, int],
    *,
    field: str = "mask",
) -> Image.Image:
    """The union of boxes; every pixel that a box touches is marked.

    Args:
        boxes: (left, top, right, bottom) each; right and bottom are exclusive.
        size: (width, height) of the picture.
        field: name of the field in errors.

    Raises:
        InvalidMask: no boxes, a box without area or outside the picture, NaN or infinity.
    """
    marked = np.zeros((size[1], size[0]), np.uint8)
    rows = [_numbers(box, f"Box {index}", field) for index, box in enumerate(boxes)]
    for index, row in enumerate(rows):
        if row.shape != (4,):
            raise InvalidMask(
                f"Box {index} has {row.size} numbers; give left, top, right, bottom.", field=field
            )
        left, top, right, bottom = row.tolist()
        if left >= right or top >= bottom:
            raise InvalidMask(
                f"Box {index} ({left:g}, {top:g}, {right:g}, {bottom:g}) has no area; give left < "
                "right and top < bottom.",
                field=field,
            )
        outer = Box(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
        inside = outer.clip(Box.of_size(size))
        if not inside.area:
            raise _outside(f"Box {index} ({left:g}, {top:g}, {right:g}, {bottom:g})", size, field)
        marked[inside.top : inside.bottom, inside.left : inside.right] = 255
    if not rows:
        raise InvalidMask("There are no boxes; give at least one.", field=field)
    return Image.fromarray(marked)


def from_polygons(
    polygons: Iterable[Any], size: tuple[int, int], *, field: str = "mask"
) -> Image.Image:
    """The union of filled polygons, outlines included.

    Args:
        polygons: each N x 2 points (x, y), or flat x, y, x, y … as COCO writes them; N >= 3.
        size: (width, height) of the picture.
        field: name of the field in errors.

    Raises:
        InvalidMask: no polygons, fewer than 3 points, outside the picture, NaN or infinity.
    """
    import cv2

    marked = np.zeros((size[1], size[0]), np.uint8)
    count = 0
    for index, polygon in enumerate(polygons):
        points = _numbers(polygon, f"Polygon {index}", field)
        if points.size % 2 or points.size < 6 or (points.ndim == 2 and points.shape[1] != 2):
            raise InvalidMask(
                f"Polygon {index} has the shape {points.shape}; give three or more x, y points.",
                field=field,
            )
        corners = np.rint(points.reshape(-1, 2)).astype(np.int32)
        left, top = corners.min(axis=0).tolist()
        right, bottom = (corners.max(axis=0) + 1).tolist()
        if not Box(left, top, right, bottom).clip(Box.of_size(size)).area:
            raise _outside(f"Polygon {index}", size, field)
        cv2.fillPoly(marked, [corners], 255)
        count += 1
    if not count:
        raise InvalidMask("There are no polygons; give at least one.", field=field)
    return Image.fromarray(marked)


def from_coco_rle(
    rle: Mapping[str, Any], size: tuple[int, int], *, field: str = "mask"
) -> Image.Image:
    """A mask from COCO's run lengths.

    Args:
        rle: 'size' (height, width) and 'counts': runs of 0 and 1 in turn, column by column, as a
            list or as COCO's compressed string or bytes.
        size: (width, height) of the picture.
        field: name of the field in errors.

    Raises:
        InvalidMask: a key is missing, the size is not the picture's, or the runs do not add up.
    """
    width, height = size
    try:
        stated_size = tuple(int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _decompress(counts, field) if isinstance(counts, (str, bytes)) else list(counts)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidMask(
            "Run lengths need 'size' (height, width) and 'counts'.", field=field
        ) from error
    if stated_size != (height, width):
        raise InvalidMask(
            f"The run lengths are for {stated_size} (height, width), the picture has "
            f"{(height, width)}; give a mask of the picture.",
            field=field,
        )
    if any(not isinstance(run, (int, np.integer)) or run < 0 for run in runs):
        raise InvalidMask("A run length is not a whole number >= 0.", field=field)
    if sum(runs) != width * height:
        raise InvalidMask(
            f"The run lengths add up to {sum(runs)} pixels, the picture has {width * height}.",
            field=field,
        )
    values = np.arange(len(runs)) % 2 * 255
    flat = np.repeat(values.astype(np.uint8), runs)
    return Image.fromarray(np.ascontiguousarray(flat.reshape(width, height).T))


def from_detections(
    detections: Any,
    size: tuple[int, int],
    *,
    indices: Iterable[int] | None = None,
    field: str = "mask",
) -> Image.Image:
    """The union of detections: their masks where they have any, else their boxes.

    Args:
        detections: a `supervision.Detections`, or anything with `mask` (N x H x W bool, or None)
            and `xyxy` (N x 4).
        size: (width, height) of the picture.
        indices: which detections; None = all.
        field: name of the field in errors.

    Raises:
        InvalidMask: nothing was detected, an index is out of range, masks of another size.
    """
    boxes = np.asarray(detections.xyxy)
    rows = list(range(len(boxes)) if indices is None else indices)
    if not rows:
        raise InvalidMask("There are no detections, so the mask is empty.", field=field)
    for index in rows:
        if not 0 <= index < len(boxes):
            raise InvalidMask(
                f"Detection {index} does not exist; there are {len(boxes)}.", field=field
            )
    if detections.mask is None:
        return from_boxes(boxes[rows], size, field=field)
    marked = np.zeros((size[1], size[0]), np.bool_)
    for index in rows:
        one = np.asarray(detections.mask[index])
        if one.shape != marked.shape:
            raise InvalidMask(
                f"The mask of detection {index} has the shape {one.shape} (height, width), the "
                f"picture {marked.shape}.",
                field=field,
            )
        marked |= one.astype(np.bool_)
    return from_array(marked, field=field)


def combine(masks: Iterable[Image.Image], *, field: str = "mask") -> Image.Image:
    """The union of masks: the larger value at each pixel.

    Raises:
        InvalidMask: no masks, or of different sizes.
    """
    combined: Image.Image | None = None
    for mask in masks:
        if combined is not None and mask.size != combined.size:
            raise InvalidMask(
                f"Masks of {combined.size} and {mask.size} pixels do not combine; give masks of "
                "one size.",
                field=field,
            )
        combined = mask if combined is None else ImageChops.lighter(combined, mask)
    if combined is None:
        raise InvalidMask("There are no masks to combine.", field=field)
    return combined


def bbox(mask: Image.Image, *, field: str = "mask") -> Box:
    """The smallest box around all marked pixels.

    Raises:
        InvalidMask: nothing is marked.
    """
    inside = mask.getbbox()
    if inside is None:
        raise InvalidMask("The mask marks nothing; paint what should change white.", field=field)
    return Box(*inside)


def coverage(mask: Image.Image) -> float:
    """How much of the picture is marked, 0..1; soft values count in part."""
    return float(ImageStat.Stat(mask).mean[0]) / 255


def check(mask: Image.Image, size: tuple[int, int], *, field: str = "mask") -> list[str]:
    """Hold a mask against its picture.

    Args:
        mask: what was given.
        size: (width, height) of the picture.
        field: name of the field in errors.

    Returns:
        Warnings, one sentence each: nearly everything is marked, so it may be inverted.

    Raises:
        InvalidMask: not 'L', another size than the picture, or nothing marked.
    """
    if mask.mode != "L":
        raise InvalidMask(f"The mask has the mode {mask.mode!r}; convert it to 'L'.", field=field)
    check_size(mask, size, field=field)
    bbox(mask, field=field)
    share = coverage(mask)
    notes = [f"{field}: {mask.info[mask_reading.NOTE]}"] if mask_reading.NOTE in mask.info else []
    if share > _NEARLY_ALL:
        return [
            *notes,
            f"The mask marks {share:.0%} of the picture; white is repainted, so invert the mask "
            "if white was meant to be kept.",
        ]
    return notes


def check_size(mask: Image.Image, size: tuple[int, int], *, field: str = "mask") -> None:
    """Raise `InvalidMask` unless the mask has the picture's (width, height)."""
    if mask.size != size:
        hint = " (pictures are turned as their EXIF says)" if mask.size == size[::-1] else ""
        raise InvalidMask(
            f"The mask has {mask.size[0]}x{mask.size[1]} pixels, the picture {size[0]}x{size[1]}"
            f"{hint}; give a mask of the picture's size.",
            field=field,
        )


def _numbers(values: Any, what: str, field: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidMask(f"{what} is not made of numbers: {error}.", field=field) from error
    if not np.isfinite(numbers).all():
        raise InvalidMask(f"{what} has a coordinate that is NaN or infinite.", field=field)
    if numbers.size and np.abs(numbers).max() > _FARTHEST:
        raise InvalidMask(
            f"{what} has a coordinate of {numbers.flat[np.abs(numbers).argmax()]:g}, far outside "
            "any picture.",
            field=field,
        )
    return numbers


def _outside(what: str, size: tuple[int, int], field: str) -> InvalidMask:
    return InvalidMask(
        f"{what} lies outside the picture of {size[0]}x{size[1]} pixels.", field=field
    )


def _decompress(counts: str | bytes, field: str) -> list[int]:
    """COCO's compressed run lengths (pycocotools, common/maskApi.c: rleFrString).

    Each number is written in groups of five bits, lowest first, with a sixth bit that says whether
    more follow, and 48 added to be printable; from the fourth on, as the difference to the one two
    before.
    """
    encoded = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in encoded:
        group = byte - 48
        if not 0 <= group < 64 or shift > 60:
            raise InvalidMask("The compressed run lengths are damaged.", field=field)
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise InvalidMask("The compressed run lengths end too early.", field=field)
    return runs

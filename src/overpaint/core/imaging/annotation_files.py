"""Files of annotations: COCO, run lengths and Label Studio in JSON, YOLO in text.

Annotations become `detections.Detection`s of one picture. From a file with annotations of many
pictures, those that name the picture's file are taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overpaint.core.errors import InvalidMask
from overpaint.core.geometry import Size
from overpaint.core.imaging import detections, masks
from overpaint.core.imaging.detections import Detection

_CORNERS = 64
"""Corners of the polygon that stands for an ellipse."""

_BEYOND = 0.02
"""How far YOLO's coordinates may leave 0..1, because of rounding and boxes at the border."""

_BRUSH_CHANNELS = 4
"""Label Studio's brush is a picture of RGB and alpha."""


def are_in(encoded: bytes) -> bool:
    """Whether a file is one of annotations: JSON, or lines of numbers; no picture is."""
    head = encoded[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] in (b"{", b"["):
        return True
    line = head.partition(b"\n")[0].split()
    return len(line) >= 5 and all(_is_number(each) for each in line)


def parse(
    encoded: bytes, size: Size, *, picture: str | None = None, field: str = "mask"
) -> list[Detection]:
    """What a file of annotations says of a picture.

    Args:
        encoded: the file's bytes.
        size: (width, height) of the picture.
        picture: name of the picture's file, to choose by among several.
        field: name of the field in errors.

    Raises:
        InvalidMask: another form, damaged, of another picture or of several, or nothing is marked.
    """
    text = _text(encoded, field)
    if text[:1] not in ("{", "["):
        things = _from_yolo(text, size, field)
    else:
        things = _from_json(text, size, picture, field)
    if not things:
        raise InvalidMask("the file has no annotations of this picture", field=field)
    return things


def _text(encoded: bytes, field: str) -> str:
    try:
        return encoded.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InvalidMask("the file of annotations is not UTF-8 text", field=field) from error


def _from_json(text: str, size: Size, picture: str | None, field: str) -> list[Detection]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMask(f"the file is not JSON: {error}", field=field) from error
    try:
        if (tasks := _tasks(content)) is not None:
            return _from_label_studio(_entry_of(tasks, _is_of_picture, picture, field), size, field)
        if isinstance(content, Mapping) and isinstance(content.get("images"), list):
            content = _of_one_picture(content, size, picture, field)
        return detections.parse(content, size, field=field)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidMask(
            "the JSON is not one of COCO's, Label Studio's or Roboflow's forms "
            f"({type(error).__name__}: {error})",
            field=field,
        ) from error


def _entry_of(
    entries: Sequence[Mapping[str, Any]], name_of: Any, picture: str | None, field: str
) -> Mapping[str, Any]:
    """The only entry, or the one that names the picture's file."""
    if len(entries) == 1:
        return entries[0]
    matches = [each for each in entries if picture is not None and name_of(each, picture)]
    if len(matches) != 1:
        what = f"{len(matches)} of them have" if matches else "none of them has"
        raise InvalidMask(
            f"the file has annotations of {len(entries)} pictures, and {what} the name "
            f"{picture!r}; give those of one picture",
            field=field,
        )
    return matches[0]


def _of_one_picture(
    data: Mapping[str, Any], size: Size, picture: str | None, field: str
) -> Mapping[str, Any]:
    """The part of a COCO data set that is of one picture."""
    own = _entry_of(
        data["images"], lambda each, name: _base_name(each["file_name"]) == name, picture, field
    )
    _check_size((own.get("width"), own.get("height")), size, field)
    own_annotations = [each for each in data["annotations"] if each.get("image_id") == own["id"]]
    return {**data, "annotations": own_annotations}


def _check_size(stated_size: tuple[Any, Any], size: Size, field: str) -> None:
    if None not in stated_size and stated_size != size:
        raise InvalidMask(
            f"the annotations are of a picture of {stated_size[0]}x{stated_size[1]} pixels, "
            f"this one has {size[0]}x{size[1]}",
            field=field,
        )


def _base_name(path: Any) -> str:
    return PurePath(str(path).replace("\\", "/")).name


def _is_number(text: bytes) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _from_yolo(text: str, size: Size, field: str) -> list[Detection]:
    """Lines of a class and a polygon or a box, in shares of the picture's width and height."""
    return [
        _yolo_line(line.split(), f"{field}, line {number}", size)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _yolo_line(cells: Sequence[str], where: str, size: Size) -> Detection:
    try:
        label, *numbers = (float(cell) for cell in cells)
    except ValueError as error:
        raise InvalidMask(
            f"it is not made of numbers: {' '.join(cells)[:60]}", field=where
        ) from error
    if len(numbers) % 2:
        numbers.pop()  # predictions end in their confidence
    shares = np.array(numbers).reshape(-1, 2)
    if len(shares) < 2 or not (shares > -_BEYOND).all() or not (shares < 1 + _BEYOND).all():
        raise InvalidMask(
            "it is not a class with a box (x y width height) or a polygon (x1 y1 x2 y2 …) in "
            f"shares of the picture, 0 to 1: {' '.join(cells)[:60]}",
            field=where,
        )
    corners = shares * size
    if len(corners) == 2:
        (x, y), (width, height) = corners.tolist()
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return Detection(box=box, class_id=int(label))
    mask = masks.from_polygons([corners], size, field=where)
    return _of_mask(np.asarray(mask) > 0, class_id=int(label))


def _of_mask(mask: NDArray[np.bool_], **values: Any) -> Detection:
    return Detection(box=detections.box_of(mask), mask=mask, **values)


def _tasks(content: Any) -> list[Mapping[str, Any]] | None:
    """Label Studio's tasks of either of its exports; None = it is something else."""
    entries = content if isinstance(content, list) else [content]
    if entries and all(isinstance(each, Mapping) and _is_task(each) for each in entries):
        return entries
    return None


def _is_task(entry: Mapping[str, Any]) -> bool:
    if isinstance(entry.get("data"), Mapping):
        return "annotations" in entry
    return any(_small_results(value) for value in entry.values())


def _small_results(value: Any) -> bool:
    """Whether a value is the list of results of a task in the smaller export (JSON_MIN)."""
    return isinstance(value, list) and any(
        isinstance(each, Mapping) and "original_width" in each for each in value
    )


def _is_of_picture(task: Mapping[str, Any], picture: str) -> bool:
    """Whether a task is of that file; Label Studio puts a number before an upload's name."""
    texts = (task.get("data") or task).values()
    return any(
        isinstance(text, str)
        and (_base_name(text) == picture or _base_name(text).endswith(f"-{picture}"))
        for text in texts
    )


def _from_label_studio(task: Mapping[str, Any], size: Size, field: str) -> list[Detection]:
    things = []
    for result in _results(task, field):
        _check_size((result.get("original_width"), result.get("original_height")), size, field)
        if result.get("image_rotation"):
            raise InvalidMask(
                "it was drawn on a picture that was rotated in Label Studio; rotate it back there",
                field=field,
            )
        value = result.get("value", result)
        mask = _label_studio_mask(value, size, field)
        if mask is not None:
            things.append(_of_mask(mask, label=_label_of(value)))
    return things


def _results(task: Mapping[str, Any], field: str) -> Iterator[Mapping[str, Any]]:
    if "annotations" not in task:
        for value in task.values():
            if _small_results(value):
                yield from value
        return
    valid = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if len(valid) > 1:
        raise InvalidMask(
            f"the picture has the annotations of {len(valid)} people; export one of them",
            field=field,
        )
    for annotation in valid:
        yield from annotation["result"]


def _label_of(value: Mapping[str, Any]) -> str | None:
    for key, labels in value.items():
        if key.endswith("labels") and labels:
            return str(labels[0])
    return None


def _label_studio_mask(
    value: Mapping[str, Any], size: Size, field: str
) -> NDArray[np.bool_] | None:
    """A region on the picture; None = it is not an area: a choice, a text, a point."""
    if "rle" in value:
        return _brush(value["rle"], size, field)
    if "points" in value:
        shares = np.array(value["points"], np.float64)
    elif "radiusX" in value:
        shares = _ellipse(value)
    elif {"x", "y", "width", "height"} <= set(value) and "rectanglelabels" in value:
        shares = _rectangle(value)
    else:
        return None
    corners = _turned(shares / 100 * size, value, size)
    return np.asarray(masks.from_polygons([corners], size, field=field)) > 0


def _rectangle(value: Mapping[str, Any]) -> NDArray[np.float64]:
    left, top = value["x"], value["y"]
    right, bottom = left + value["width"], top + value["height"]
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _ellipse(value: Mapping[str, Any]) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    x = value["x"] + value["radiusX"] * np.cos(angles)
    y = value["y"] + value["radiusY"] * np.sin(angles)
    return np.stack([x, y], axis=1)


def _turned(
    corners: NDArray[np.float64], value: Mapping[str, Any], size: Size
) -> NDArray[np.float64]:
    """Turned clockwise around (x, y): a rectangle's first corner, an ellipse's centre."""
    angle = math.radians(value.get("rotation") or 0)
    if not angle:
        return corners
    around = np.array([value["x"], value["y"]]) / 100 * size
    sine, cosine = math.sin(angle), math.cos(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray((corners - around) @ turn + around)


def _brush(packed: Sequence[int], size: Size, field: str) -> NDArray[np.bool_]:
    """A brush's stroke, from the packed runs of the package @thi.ng/rle-pack.

    A head gives the number of values, the bits of each, and four widths of run lengths; then come
    runs: a bit for 'one value repeated', two bits for the width of the length, the length less
    one, and the values.
    """
    bits = _Bits(packed)
    count, value_bits = bits.number(32), bits.number(5) + 1
    widths = [bits.number(4) + 1 for _ in range(4)]
    if count != size[0] * size[1] * _BRUSH_CHANNELS:
        raise InvalidMask(
            f"a brush stroke has {count} values, which do not belong to a picture of "
            f"{size[0]}x{size[1]} pixels",
            field=field,
        )
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        repeats = bits.number(1)
        end = min(start + 1 + bits.number(widths[bits.number(2)]), count)
        length = 1 if repeats else end - start
        values[start:end] = bits.numbers(length, value_bits)
        start = end
    painted: NDArray[np.bool_] = values.reshape(size[1], size[0], _BRUSH_CHANNELS)[..., -1] > 0
    return painted


class _Bits:
    """Reads numbers of some bits each, the highest bit first."""

    def __init__(self, packed: Sequence[int]) -> None:
        self._bits = np.unpackbits(np.array(packed, np.uint8))
        self._at = 0

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])

    def numbers(self, count: int, width: int) -> NDArray[np.int64]:
        """`count` numbers of `width` bits.

        Raises:
            ValueError: there are not as many.
        """
        end = self._at + count * width
        bits = self._bits[self._at : end].reshape(count, width).astype(np.int64)
        self._at = end
        return bits @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))

"""What every segmenter takes and gives: a picture and hints in, detections with masks out.

Coordinates are pixels of the upright picture, from its top left corner.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.imaging.detections import Detection

Rectangle = tuple[float, float, float, float]

_SAME = 0.7  # overlap of boxes from which on two detections are of the same thing


@dataclass(frozen=True)
class Point:
    """A place in the picture that is part of the thing, or (`inside=False`) is not."""

    x: float
    y: float
    inside: bool = True


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What to find.

    Attributes:
        points: all of one thing.
        boxes: (left, top, right, bottom) each, one thing in each; beside points only one.
        words: what to look for, as one would name it ('the dog'); beside points or boxes not used
            by any segmenter.

    Without any hint, everything is to be found.
    """

    points: tuple[Point, ...] = ()
    boxes: tuple[Rectangle, ...] = ()
    words: str | None = None

    @classmethod
    def of(
        cls,
        points: Sequence[Sequence[float]],
        boxes: Sequence[Sequence[float]],
        words: str | None,
    ) -> Hints:
        """The hints of a caller: (x, y) each, (left, top, right, bottom) each, words.

        Raises:
            InvalidRequest: another number of values, or one that is not a number.
        """
        places = _rows(points, 2, "points", "(x, y)")
        sides = _rows(boxes, 4, "boxes", "(left, top, right, bottom)")
        return cls(
            points=tuple(Point(x, y) for x, y in places),
            boxes=tuple((left, top, right, bottom) for left, top, right, bottom in sides),
            words=words,
        )

    def check(self, size: tuple[int, int]) -> None:
        """Hold the hints against their picture of (width, height).

        Raises:
            InvalidRequest: a point or a box lies outside, or is not made of numbers; words beside
                points or boxes; no point lies inside the thing; points with several boxes.
        """
        for point in self.points:
            if not (0 <= point.x < size[0] and 0 <= point.y < size[1]):
                raise _outside(f"{point.x:g},{point.y:g}", size, "point")
        for box in self.boxes:
            _check_box(box, size)
        if self.words is not None and (self.points or self.boxes):
            raise InvalidRequest("give words, or points and boxes, not both", field="text")
        if self.words is not None and not self.words.strip():
            raise InvalidRequest("is empty; say what to look for", field="text")
        if self.points and not self.boxes and not any(point.inside for point in self.points):
            raise InvalidRequest("no point lies on the thing; give one that does", field="point")
        if self.points and len(self.boxes) > 1:
            raise InvalidRequest(
                f"points go with one box, not with {len(self.boxes)}: whose points would they be?",
                field="box",
            )


class Segmenter(ABC):
    """Finds things in a picture.

    Class attributes:
        name: as users write it.
    """

    name: ClassVar[str]

    @abstractmethod
    def segment(self, picture: Image.Image, hints: Hints) -> list[Detection]:
        """Find what the hints say.

        Args:
            picture: 'RGB'.
            hints: what to look for.

        Returns:
            One detection per box, one for all points, any number for words or for no hints; each
            with a mask of the picture's size, best first where there is an order.

        Raises:
            InvalidRequest: the hints do not fit the picture.
            UnsupportedOption: this segmenter cannot work from such hints.
        """


def without_repeats(detections: list[Detection]) -> list[Detection]:
    """The detections without those whose boxes are nearly those of an earlier one."""
    distinct: list[Detection] = []
    for each in detections:
        if all(_overlap(each.box, other.box) <= _SAME for other in distinct):
            distinct.append(each)
    return distinct


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    intersection = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return intersection / (sum(areas) - intersection)


def refuse(name: str, hints: str, instead: str) -> UnsupportedOption:
    """An error for hints that a segmenter cannot use."""
    return UnsupportedOption(f"{name} cannot work from {hints}; {instead}", field="model")


def _check_box(box: Sequence[float], size: tuple[int, int]) -> None:
    words = ",".join(f"{value:g}" for value in box)
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise InvalidRequest(f"{words} is not left, top, right, bottom", field="box")
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise InvalidRequest(
            f"{words} has no area; give left < right and top < bottom", field="box"
        )
    if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
        raise _outside(words, size, "box")


def _rows(
    values: Sequence[Sequence[float]], length: int, field: str, form: str
) -> list[list[float]]:
    try:
        rows = [[float(each) for each in value] for value in values]
    except (TypeError, ValueError):
        rows = [[]]
    if any(len(row) != length for row in rows):
        raise InvalidRequest(f"give a list of {form}, in pixels", field=field)
    return rows


def _outside(words: str, size: tuple[int, int], field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{words} lies outside the picture of {size[0]}x{size[1]} pixels", field=field
    )

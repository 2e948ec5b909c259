"""An edit in several windows: parts of a mask that lie far apart, each computed by itself.

One window around two far parts holds all that is between them: it costs more than both, and where
it is larger than what a model can see, it loses resolution. So each part, or group of near ones,
gets a window of its own wherever that is clearly less work. A window never shows another window's
part. Each has the image's own seed, so a part comes out as if it had been edited alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from overpaint.core.geometry import Box, Plan
from overpaint.core.imaging import masks
from overpaint.core.types import EditRequest
from overpaint.diffusion.family import Family, Prepared
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine.checking import CheckedRequest

MOST = 8
"""Windows of an edit."""

WORTH = 0.75
"""Share of the work of one window that several may take."""

_MOST_PARTS = 32
"""Parts that are looked at one by one; of more, near ones are joined first."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of an edit that is computed by itself.

    Attributes:
        request: the edit, with this part of its mask.
        plan: of the part.
    """

    request: EditRequest
    plan: Plan


class EncodedRegions(NamedTuple):
    """An edit before its first step.

    Attributes:
        regions: the parts that are computed, each by itself.
        images: of the first image one per region, then of the second one …
        warnings: one sentence each.
    """

    regions: tuple[Region, ...]
    images: list[Prepared]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class _Group:
    """Parts of a mask that share a window.

    Attributes:
        labels: of the parts.
        box: around them, grown as the edit grows its mask.
        plan: of the window.
    """

    labels: frozenset[int]
    box: Box
    plan: Plan

    @property
    def cost(self) -> int:
        """Pixels of the canvas."""
        return self.plan.canvas[0] * self.plan.canvas[1]

    def shows(self, other: _Group) -> bool:
        """Whether something of the other's parts may be in its window."""
        return self.plan.window.clip(other.box).area > 0


def of(
    family: Family[Any, Any], request: EditRequest, options: FamilyOptions
) -> tuple[Region, ...]:
    """The windows of an edit; one around everything where several are not worth it."""
    whole = Region(request, family.plan(request, options))
    if request.mask is None or family.window(request, options, Box(0, 0, 1, 1)) is None:
        return (whole,)
    box = masks.bbox(request.mask)
    parts = np.asarray(request.mask.crop(box.as_tuple())) > 0
    labels, boxes = _parts(parts)
    groups = _grouped(family, request, options, [_shift_into(each, box) for each in boxes])
    cost = sum(group.cost for group in groups)
    if len(groups) < 2 or cost > WORTH * whole.plan.canvas[0] * whole.plan.canvas[1]:
        return (whole,)
    return tuple(
        Region(replace(request, mask=_only(request.mask, labels, box, group)), group.plan)
        for group in groups
    )


def canvas_pixels(family: Family[Any, Any], checked: CheckedRequest) -> int:
    """Pixels of the canvas around all that an edit repaints, where the picture keeps its size.

    Quick, and known before anything is encoded; of several windows each may be smaller.

    Raises:
        InvalidRequest: the family cannot make the edit.
    """
    request, options = checked.request, family.settle(checked.options)
    plan = None
    if request.mask is not None:
        whole = Box.of_size(request.image.size)
        box = masks.bbox(request.mask).grow(options.repaint_grow).clip(whole)
        plan = family.window(request, options, box) if box.area else None
    width, height = (plan or family.plan(request, options)).canvas
    return width * height


def prepared(
    family: Family[Any, Any], checked: CheckedRequest, require_spare: Callable[[int], None]
) -> EncodedRegions:
    """Encode an edit: all its images, in each of its windows.

    Args:
        family: of the model.
        checked: the edit.
        require_spare: raises where there is no room for so many bytes during the steps. It is
            called with an estimate before anything is encoded, and with what images hold after.

    Raises:
        InvalidRequest, OutOfMemory, Overloaded.
    """
    options, seeds = checked.options, checked.noise_seeds
    regions = of(family, checked.request, options)
    keeps = sum(family.held_bytes(each.request, each.plan, options) for each in regions)
    require_spare(len(checked.seeds) * keeps)
    parts = [family.prepare(each.request, each.plan, options, seeds) for each in regions]
    for several, _ in parts:
        for image, seed in zip(several, checked.seeds, strict=True):
            image.seed = seed
    images = [
        image for together in zip(*(each for each, _ in parts), strict=True) for image in together
    ]
    require_spare(sum(image.held_bytes for image in images))
    warnings = [warning for _, several in parts for warning in several]
    return EncodedRegions(regions, images, [*_notes(regions), *dict.fromkeys(warnings)])


def _notes(windows: Sequence[Region]) -> list[str]:
    """A sentence where there are several."""
    if len(windows) < 2:
        return []
    return [
        f"mask: {len(windows)} parts of it lie far apart, so each was computed by itself; "
        "window=one computes them together"
    ]


def _grouped(
    family: Family[Any, Any], request: EditRequest, options: FamilyOptions, boxes: Sequence[Box]
) -> list[_Group]:
    """Parts in as few windows as cost least."""

    def group(labels: frozenset[int], box: Box) -> _Group:
        plan = family.window(request, options, box)
        assert plan is not None
        return _Group(labels, box, plan)

    whole = Box.of_size(request.image.size)
    grown = [box.grow(options.repaint_grow).clip(whole) for box in boxes]
    groups = [
        group(frozenset({label}), box) for label, box in enumerate(grown, start=1) if box.area
    ]
    while len(groups) > 1:
        best: tuple[int, _Group, _Group, _Group] | None = None
        for one, other in combinations(groups, 2):
            joined = group(one.labels | other.labels, one.box.union(other.box))
            loss = joined.cost - one.cost - other.cost
            if one.shows(other) or other.shows(one):
                best = (-1, one, other, joined)
                break
            if best is None or loss < best[0]:
                best = (loss, one, other, joined)
        assert best is not None
        loss, one, other, joined = best
        if loss > 0 and len(groups) <= MOST:
            break
        groups = [each for each in groups if each not in (one, other)] + [joined]
    return groups


def _parts(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Box]]:
    """A number for each pixel of a part, from 1, and the parts' boxes; a few parts at most."""
    import cv2

    near = marked.astype(np.uint8)
    reach = 8
    while True:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
        if count - 1 <= _MOST_PARTS:
            break
        near = np.asarray(cv2.dilate(near, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)))
        reach *= 2
    boxes = [
        Box(left, top, left + wide, top + high) for left, top, wide, high, _ in stats[1:].tolist()
    ]
    return np.asarray(labels, np.int32), boxes


def _shift_into(box: Box, into: Box) -> Box:
    return Box(
        box.left + into.left, box.top + into.top, box.right + into.left, box.bottom + into.top
    )


def _only(mask: Image.Image, labels: NDArray[np.int32], box: Box, group: _Group) -> Image.Image:
    """The mask without what other windows are for."""
    own = np.isin(labels, list(group.labels))
    part = np.asarray(mask.crop(box.as_tuple())) * own
    alone = Image.new("L", mask.size)
    alone.paste(Image.fromarray(part.astype(np.uint8)), box.as_tuple())
    return alone

"""The exemplar filler: a hole is filled with matching texture from the rest of the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from overpaint.core.errors import InvalidImage, InvalidMask

from .matching import PASSES, Matcher, better_start, rounds
from .pyramid import Layer, build
from .seams import HOLD, HOLD_CHOSEN, blend
from .smooth import fill_smooth_parts
from .surroundings import set_prices
from .types import BoolMask, Pixels

MARGIN = 8  # pictures narrower than this are widened by repetition, so that a patch fits

LONG = 200_000
"""Pixels of a hole above which each part of a round counts as a round, so that none takes long."""

RoundPart = Callable[[], None]
OnRound = Callable[[float], None]


def fill(
    pixels: Pixels,
    hole: BoolMask,
    *,
    copy_from: BoolMask | None = None,
    not_from: BoolMask | None = None,
    seed: int = 0,
    progress: OnRound | None = None,
) -> Pixels:
    """Fills a hole with what the rest of the picture suggests; no weights, no words.

    Coarse to fine, each patch over the hole is matched to the most similar patch of known pixels
    (PatchMatch, Barnes et al. 2009), and the matches vote on the hole's pixels (Wexler et al.
    2007). A screened Poisson solve hides the seams. Unless `copy_from` says what to copy, lines
    that reach the hole are continued across it, what is unusual near the hole costs more, and gaps
    in plain or evenly graded areas are filled smoothly.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        hole: (H, W) bool, true where a filling is wanted.
        copy_from: (H, W) bool, copy only from here; None = from everywhere.
        not_from: (H, W) bool, never copy from here.
        seed: >= 0; the same seed gives the same filling, on any number of threads.
        progress: called after each round of work with the share of rounds done, 0..1; what it
            raises ends the work.

    Returns:
        (H, W, 3) uint8; equal to `pixels` outside the hole.

    Raises:
        InvalidImage: `pixels` is of another shape or type.
        InvalidMask: a mask is of another shape or type, the hole leaves no known pixel, or
            `copy_from` and `not_from` leave none to copy (its `field` names the mask at fault).
    """
    filling = Filling(pixels, hole, copy_from=copy_from, not_from=not_from, seed=seed)
    for number in range(filling.rounds):
        filling.improve()
        if progress is not None:
            progress((number + 1) / filling.rounds)
    return filling.picture()


class Filling:
    """A filling under way, round by round; the arguments are those of `fill`.

    Attributes:
        rounds: how often `improve` must be called in all; 0 where a smooth filling is enough.
    """

    def __init__(
        self,
        pixels: Pixels,
        hole: BoolMask,
        *,
        copy_from: BoolMask | None = None,
        not_from: BoolMask | None = None,
        seed: int = 0,
    ) -> None:
        copyable = _check(pixels, hole, copy_from, not_from)
        self._pixels, self._hole, self._seed = pixels, hole, seed
        self._free_choice = copy_from is None
        self._hold = HOLD if self._free_choice else HOLD_CHOSEN
        self._matchers: list[Matcher] = []  # of the present layer; more than one on the coarsest
        self._rounds: list[list[RoundPart]] = []
        self._filled = pixels
        if hole.any():
            self._begin(copyable)
        self.rounds = len(self._rounds)

    def improve(self) -> None:
        """One round of matching and voting, or a part of one where the hole is large."""
        for part in self._rounds.pop():
            part()

    def picture(self) -> Pixels:
        """The picture as it stands: (H, W, 3) uint8, equal to the original outside the hole."""
        height, width = self._hole.shape
        filled = self._filled
        if self._matchers:
            filled = _enlarged(self._matchers[-1].layer, filled.shape)
        result = self._pixels.copy()
        result[self._hole] = filled[:height, :width][self._hole]
        return result

    def _start(self, layer: Layer) -> None:
        self._matchers = self._matchers_of(layer)

    def _search(self) -> None:
        for matcher in self._matchers:
            matcher.search()

    def _vote(self, *, last: bool) -> None:
        for matcher in self._matchers:
            matcher.vote(last=last)

    def _hide_seams(self) -> None:
        best = better_start(self._matchers)
        blended = blend(best.layer.values, best.layer.hole, best.votes, self._hold)
        self._filled = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
        self._matchers = []

    def _matchers_of(self, layer: Layer) -> list[Matcher]:
        """A layer is begun from the coarser one; the coarsest with peels, and also with lines."""
        if self._matchers:
            return [Matcher(layer, better_start(self._matchers).field, self._seed)]
        matchers = [Matcher(layer, None, self._seed)]
        if self._free_choice:
            other = replace(layer, values=layer.values.copy())
            matchers.append(Matcher(other, None, self._seed, with_lines=True))
        return matchers

    def _begin(self, copyable: BoolMask) -> None:
        height, width = self._hole.shape
        room = [(0, max(0, MARGIN - height)), (0, max(0, MARGIN - width))]
        hole, copyable = (np.pad(mask, room, mode="edge") for mask in (self._hole, copyable))
        self._filled = np.pad(self._pixels, [*room, (0, 0)], mode="edge")
        if self._free_choice:
            self._filled, hole = fill_smooth_parts(self._filled, hole)
        if hole.any():
            layers = build(self._filled, hole, copyable)
            if self._free_choice:
                set_prices(layers)
            self._rounds = self._rounds_on(layers)

    def _rounds_on(self, layers: list[Layer]) -> list[list[RoundPart]]:
        """The parts of all rounds, the first round last. Layers are done from coarse to fine."""
        planned: list[list[RoundPart]] = []
        for number, layer in enumerate(layers):
            count = rounds(layer, coarsest=number == len(layers) - 1, finest=number == 0)
            is_long = np.count_nonzero(layer.hole) > LONG
            for left in range(count):
                parts = self._parts(layer, first=left == count - 1, last=not planned)
                planned += [[part] for part in reversed(parts)] if is_long else [parts]
        return planned

    def _parts(self, layer: Layer, *, first: bool, last: bool) -> list[RoundPart]:
        parts: list[RoundPart] = [partial(self._start, layer)] if first else []
        parts += [self._search] * PASSES
        parts.append(partial(self._vote, last=last))
        return [*parts, self._hide_seams] if last else parts


def _enlarged(layer: Layer, shape: tuple[int, ...]) -> Pixels:
    """A layer's colours at the picture's (height, width, …)."""
    colours = np.clip(np.rint(layer.values[..., :3]), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(colours, (shape[1], shape[0])), np.uint8)


def _check(
    pixels: Pixels, hole: BoolMask, copy_from: BoolMask | None, not_from: BoolMask | None
) -> BoolMask:
    """The pixels that may be copied, or an error that names what is wrong."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InvalidImage(
            f"expected (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}", field="image"
        )
    for field, mask in (("mask", hole), ("copy_from", copy_from), ("not_from", not_from)):
        if mask is not None and (mask.shape != pixels.shape[:2] or mask.dtype != np.bool_):
            raise InvalidMask(
                f"expected {pixels.shape[:2]} bool like the image, got {mask.shape} {mask.dtype}",
                field=field,
            )
    copyable = ~hole
    if not copyable.any():
        raise InvalidMask(
            "the mask covers the whole picture, so there is nothing to copy from; "
            "leave some of it uncovered",
            field="mask",
        )
    for field, allowed in (
        ("copy_from", copy_from),
        ("not_from", None if not_from is None else ~not_from),
    ):
        if allowed is None:
            continue
        copyable &= allowed
        if not copyable.any():
            raise InvalidMask(
                "it leaves no pixel outside the mask to copy from; allow a larger area",
                field=field,
            )
    return copyable

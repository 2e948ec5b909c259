"""The exemplar filler: a hole is filled with matching texture from the rest of the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from overpaint.core.errors import InvalidImage, InvalidMask

from .matching import Field, Matcher
from .pyramid import Layer, build
from .seams import HOLD, HOLD_CHOSEN, blend
from .smooth import fill_smooth_parts
from .types import Mask, Pixels

MARGIN = 8  # pictures narrower than this are widened by repetition, so that a patch fits

Progress = Callable[[float], None]


def fill(
    pixels: Pixels,
    hole: Mask,
    *,
    source: Mask | None = None,
    forbidden: Mask | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pixels:
    """Fills a hole with what the rest of the picture suggests; no weights, no words.

    Coarse to fine, each patch over the hole is matched to the most similar patch of known pixels
    (PatchMatch, Barnes et al. 2009), and the matches vote on the hole's pixels (Wexler et al.
    2007); a screened Poisson solve hides the seams. Gaps in plain or evenly graded areas are
    filled smoothly instead, unless `source` says what to copy.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        hole: (H, W) bool, true where a filling is wanted.
        source: (H, W) bool, copy only from here; None = from everywhere.
        forbidden: (H, W) bool, never copy from here.
        seed: >= 0; the same seed gives the same filling, on any number of threads.
        progress: called with the share done, 0..1; what it raises ends the work.

    Returns:
        (H, W, 3) uint8; equal to `pixels` outside the hole.

    Raises:
        InvalidImage: `pixels` is of another shape or type.
        InvalidMask: a mask is of another shape or type, the hole leaves no known pixel, or
            `source` and `forbidden` leave none to copy (its `field` names the mask at fault).
    """
    copyable = _check(pixels, hole, source, forbidden)
    if not hole.any():
        return pixels.copy()
    height, width = hole.shape
    room = [(0, max(0, MARGIN - height)), (0, max(0, MARGIN - width))]
    wide_hole, wide_copyable = (np.pad(mask, room, mode="edge") for mask in (hole, copyable))
    wide = np.pad(pixels, [*room, (0, 0)], mode="edge")
    if source is None:
        hold = HOLD
        filled, remaining = fill_smooth_parts(wide, wide_hole)
    else:
        hold = HOLD_CHOSEN
        filled, remaining = wide, wide_hole
    if remaining.any():
        filled = _fill_by_example(filled, remaining, wide_copyable, hold, seed, progress)
    result = pixels.copy()
    result[hole] = filled[:height, :width][hole]
    if progress is not None:
        progress(1.0)
    return result


def _fill_by_example(
    pixels: Pixels,
    hole: Mask,
    copyable: Mask,
    hold: float,
    seed: int,
    progress: Progress | None,
) -> Pixels:
    layers = build(pixels, hole, copyable)
    total = sum(_effort(layer) for layer in layers)
    done = 0.0
    field: Field | None = None
    for number in reversed(range(len(layers))):
        layer = layers[number]
        matcher = Matcher(layer, field, seed)
        rounds = matcher.rounds(coarsest=field is None, finest=number == 0)
        for turn in range(rounds):
            matcher.improve(last=number == 0 and turn == rounds - 1)
            if progress is not None:
                progress(0.98 * (done + _effort(layer) * (turn + 1) / rounds) / total)
        done += _effort(layer)
        field = matcher.field
    filled = blend(layers[0].values, hole, matcher.votes, hold)
    return np.clip(np.rint(filled), 0, 255).astype(np.uint8)


def _effort(layer: Layer) -> float:
    return float(np.count_nonzero(layer.hole))


def _check(pixels: Pixels, hole: Mask, source: Mask | None, forbidden: Mask | None) -> Mask:
    """The pixels that may be copied, or an error that names what is wrong."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InvalidImage(
            f"expected (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}", field="image"
        )
    for field, mask in (("mask", hole), ("source", source), ("forbidden", forbidden)):
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
    for field, kept in (
        ("source", source),
        ("forbidden", None if forbidden is None else ~forbidden),
    ):
        if kept is None:
            continue
        copyable &= kept
        if not copyable.any():
            raise InvalidMask(
                "it leaves no pixel outside the mask to copy from; allow a larger area",
                field=field,
            )
    return copyable

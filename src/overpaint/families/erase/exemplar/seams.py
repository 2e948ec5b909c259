"""From votes to a picture without seams: gradients, their lost energy given back, one solve."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from . import kernels
from .bands import THREADS
from .matching import Votes
from .types import BoolMask, Float, Index

# Pull towards the voted colours: a seam's step fades over about 1 / sqrt(hold) pixels.
HOLD = 0.03
HOLD_CHOSEN = 0.05  # where the caller chose what to copy, its colours stay
SWEEPS, SPEED = 60, 1.75
# Pull of the detail that is given back towards nothing: stronger, so that no tint comes with it.
HOLD_DETAIL = 0.3
SWEEPS_DETAIL, SPEED_DETAIL = 12, 1.5
RESTORED = 1.5  # exponent on the lost amplitude: 1 gives back what the votes' mean has lost
MOST_GAIN = 4.0
WORTH_THREADS = 20_000  # pixels relaxed at once from which several threads are faster than one
QUIET = 10.0  # squared steps below this are noise and are not amplified
NEIGHBOURHOOD = (5, 5)
MARGIN = 4  # pixels around the hole and its votes: no neighbourhood that counts goes beyond


def blend(values: Float, hole: BoolMask, votes: Votes, hold: float = HOLD) -> Float:
    """Solves for the picture whose steps are the voted ones and whose rim is the known one.

    Poisson blending (Pérez et al. 2003), screened towards the voted colours as in Image Melding
    (Darabi et al. 2012). Votes that agree keep a sharp step; where they disagree their mean is
    too flat, so steps are amplified by what the mean has lost in energy (the idea of
    variance-preserving texture blending, Heitz & Neyret 2018). What amplification adds is solved
    for alone and held near zero: in one solve with the rest it summed up to tints and ridges.

    Args:
        values: (H, W, C >= 3), the filled layer.
        hole: (H, W).
        votes: the last votes on the layer.
        hold: > 0, how strongly colours are held against the seams' pull.

    Returns:
        (H, W, 3) float32 RGB; known pixels as in `values`.
    """
    window, votes = _window(hole, votes)
    picture = values[..., :3].copy()
    colours, hole = picture[window].copy(), hole[window]
    gain = _gain(hole.shape, votes)[..., None]
    right, down = np.zeros_like(colours), np.zeros_like(colours)
    right[votes.pixel_y, votes.pixel_x] = votes.right[:, :3]
    down[votes.pixel_y, votes.pixel_x] = votes.down[:, :3]
    detail = np.zeros_like(colours)
    solve(
        detail, right * (gain - 1), down * (gain - 1), hole,
        hold=HOLD_DETAIL, sweeps=SWEEPS_DETAIL, speed=SPEED_DETAIL,
    )  # fmt: skip
    solve(colours, right, down, hole, hold=hold, sweeps=SWEEPS, speed=SPEED)
    picture[window] = colours + detail
    return picture


def _window(hole: BoolMask, votes: Votes) -> tuple[tuple[slice, slice], Votes]:
    """The part of the layer that the solution depends on, and the votes with places in it."""
    window = []
    for axis, places in enumerate((votes.pixel_y, votes.pixel_x)):
        lines = np.nonzero(hole.any(axis=1 - axis))[0]
        first, last = min(lines[0], places.min()), max(lines[-1], places.max())
        # From an even line on, the checkerboard has its colours.
        start = max(0, int(first) - MARGIN) // 2 * 2
        window.append(slice(start, min(hole.shape[axis], int(last) + 1 + MARGIN)))
    rows, columns = window
    pixel_y, pixel_x = votes.pixel_y - rows.start, votes.pixel_x - columns.start
    return (rows, columns), replace(votes, pixel_y=pixel_y, pixel_x=pixel_x)


def solve(
    values: Float,
    right: Float,
    down: Float,
    hole: BoolMask,
    *,
    hold: float,
    sweeps: int,
    speed: float,
) -> None:
    """Solves a screened Poisson equation over the hole in place; see `kernels.relax`.

    A sweep relaxes the pixels of one colour of a checkerboard, then those of the other. Pixels of
    one colour do not depend on each other, so they can be relaxed in bands.

    Args:
        values, right, down: (H, W, C).
        hole: (H, W).
        hold: >= 0, the pull towards the values given.
        sweeps: how often each pixel is relaxed.
        speed: 1..2, of over-relaxation.
    """
    wanted = values.copy()
    colours = [_places(hole, colour) for colour in (0, 1)]
    for _ in range(sweeps):
        for pixel_y, pixel_x in colours:
            relax = partial(
                kernels.relax, values, wanted, right, down, pixel_y, pixel_x, hold, speed
            )
            if pixel_y.size < WORTH_THREADS:
                relax(0, pixel_y.size)
            else:
                THREADS.in_bands(pixel_y.size, relax)


def _places(hole: BoolMask, colour: int) -> tuple[Index, Index]:
    """The hole's pixels (rows, columns) of one colour of a checkerboard, 0 or 1."""
    y, x = (places.astype(np.int32) for places in np.nonzero(hole))
    which = (y + x) % 2 == colour
    return y[which], x[which]


def _gain(shape: tuple[int, ...], votes: Votes) -> Float:
    expected, left = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    place = (votes.pixel_y, votes.pixel_x)
    expected[place] = votes.energy.sum(1)
    left[place] = (votes.right[:, :3] ** 2 + votes.down[:, :3] ** 2).sum(1)
    lost = (cv2.blur(expected, NEIGHBOURHOOD) + QUIET) / (cv2.blur(left, NEIGHBOURHOOD) + QUIET)
    return np.asarray(np.clip(lost ** (RESTORED / 2), 1, MOST_GAIN), np.float32)

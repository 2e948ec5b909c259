"""How far a model coloured a picture as a whole: a smooth map of colours, found and taken back.

The map has a curve and a share of the other channels for each channel, and a slope across the
picture. It is fitted by iteratively reweighted least squares (Tukey's biweight), so that what was
edited has no say in it, and held near 'no change' by a ridge. Colours that what stayed does not
show are changed as the nearest ones that it does show.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overpaint.core.imaging.fidelity.arrays import FloatPlane, RgbPixels

SIDE = 128
"""Longer side, in pixels, at which colours are compared."""

ROUNDS = 8
"""Of reweighting."""

LEAST_TINT = 0.75
"""Mean levels of 255 from which a tint counts."""

MOST_TINT = 24.0
"""Mean levels beyond which it is no tint but an edit."""

LEAST_AGREEING = 0.35
"""Share of the picture that must agree on it."""

_TUKEY = 4.685
_RIDGE = 1e-3  # of the mean square of each term
_BLUR = 1.0  # pixels: single pixels' noise is no colour


@dataclass(frozen=True, eq=False, kw_only=True)
class Tint:
    """The correction that takes a model's tint off again.

    Attributes:
        terms: (3, 9), of each channel: of red, green and blue, of its own square and cube, of the
            places across and down, of their product, and a constant; values and places in 0..1.
        darkest, brightest: (3,), what the fit has seen, 0..1.
        levels: mean absolute change, of 255.
    """

    terms: NDArray[np.float32]
    darkest: NDArray[np.float32]
    brightest: NDArray[np.float32]
    levels: float

    def taken_off(self, pixels: RgbPixels) -> RgbPixels:
        """An (H, W, 3) picture without it."""
        height, width = pixels.shape[:2]
        values = pixels.astype(np.float32)
        limited = np.clip(values, 255 * self.darkest, 255 * self.brightest)
        values += cv2.transform(limited, np.ascontiguousarray(self.terms[:, :3]))
        levels = np.arange(256, dtype=np.float32)[:, None] / 255
        levels = levels.clip(self.darkest, self.brightest)
        curves = 255 * (self.terms[:, 3] * levels**2 + self.terms[:, 4] * levels**3)
        values += cv2.LUT(pixels, np.ascontiguousarray(curves[None], np.float32))
        values += _slope(255 * self.terms[:, 5:], width, height)
        return np.rint(values).clip(0, 255).astype(np.uint8)


def tint(
    before: RgbPixels, after: RgbPixels, comparable: NDArray[np.bool_] | None = None
) -> Tint | None:
    """The tint of a picture beside the one that it was made of.

    Args:
        before: (H, W, 3), as its colours should be where it was not edited.
        after: (H, W, 3), as they are.
        comparable: (H, W), where the two show the same place; None = everywhere.

    Returns:
        The tint; None where there is none that is certain, or where it is too strong for one.
    """
    one, other = (_small(each) for each in (before, after))
    weight = np.ones(one.shape[:2], np.float32)
    if comparable is not None:
        size = (one.shape[1], one.shape[0])
        weight = cv2.resize(comparable.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        weight = np.asarray(weight > 0.999, np.float32)
    differences = (one - other).reshape(-1, 3)
    valid = weight.ravel() > 0
    if valid.sum() < 256:
        return None
    terms, weights = _fitted(_bases(other), differences, valid)
    agreeing = weights > 0.2
    if agreeing.sum() < LEAST_AGREEING * valid.sum():
        return None
    return _checked(
        terms, other.reshape(-1, 3)[agreeing], _bases(other)[:, agreeing], differences[agreeing]
    )


def _checked(
    terms: FloatPlane, colours: FloatPlane, bases: FloatPlane, differences: FloatPlane
) -> Tint | None:
    """The fit as a tint; None where it is too weak, too strong, or explains little.

    Args:
        terms: (3, 9).
        colours: (n, 3), colours of the pixels that agree on it.
        bases: (3, n, 9), of these.
        differences: (n, 3), their changes.
    """
    change = np.einsum("cnk,ck->nc", bases, terms)
    levels = 255 * float(np.abs(change).mean())
    left = float(np.square(differences - change).mean())
    if not LEAST_TINT <= levels <= MOST_TINT or left > 0.9 * float(np.square(differences).mean()):
        return None
    darkest, brightest = np.percentile(colours, (1, 99), axis=0).astype(np.float32)
    return Tint(terms=terms, darkest=darkest, brightest=brightest, levels=levels)


def _small(pixels: RgbPixels) -> FloatPlane:
    """Values from 0 to 1, small and a little soft."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _BLUR), np.float32)


def _bases(values: FloatPlane) -> FloatPlane:
    """(3, pixels, 9), what each channel's change is made of."""
    height, width = values.shape[:2]
    x = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (height, width))
    y = np.broadcast_to(np.linspace(0, 1, height, dtype=np.float32)[:, None], (height, width))
    shared = [x, y, x * y, np.ones_like(x)]
    colours = list(np.moveaxis(values, 2, 0))
    return np.stack(
        [np.stack([*colours, own**2, own**3, *shared], axis=-1).reshape(-1, 9) for own in colours]
    )


def _fitted(
    bases: FloatPlane, differences: FloatPlane, valid: NDArray[np.bool_]
) -> tuple[FloatPlane, FloatPlane]:
    """(3, 9) terms, and (pixels,) how far each pixel agrees with them."""
    # The first guess is one change of all: the commonest one, not the mean.
    change = np.broadcast_to(_mode(differences[valid]), differences.shape)
    terms = np.zeros((3, 9), np.float32)
    weights = np.zeros(len(differences), np.float32)
    for _ in range(ROUNDS):
        distance = np.linalg.norm(differences - change, axis=1)
        scale = 1.4826 * float(np.median(distance[valid]))
        # What most pixels agree on is narrower than the median of all where much was edited.
        scale = min(scale, 3 * float(np.quantile(distance[valid], 0.25)))
        bound = _TUKEY * max(scale, 1 / 255)
        weights = (np.maximum(0, 1 - (distance / bound) ** 2) ** 2 * valid).astype(np.float32)
        for channel in range(3):
            basis = bases[channel]
            normal = (basis * weights[:, None]).T @ basis
            normal[np.diag_indices(9)] += _RIDGE * np.trace(normal) / 9
            terms[channel] = np.linalg.solve(normal, basis.T @ (weights * differences[:, channel]))
        change = np.einsum("cnk,ck->nc", bases, terms)
    return terms, weights


def _mode(values: FloatPlane) -> FloatPlane:
    """(3,), the commonest of (n, 3) changes: the middle of each channel's shortest half."""
    ordered = np.sort(values, axis=0)
    half = len(ordered) // 2
    start = np.argmin(ordered[half:] - ordered[: len(ordered) - half], axis=0)
    channels = np.arange(3)
    return np.asarray((ordered[start, channels] + ordered[start + half, channels]) / 2, np.float32)


def _slope(terms: FloatPlane, width: int, height: int) -> FloatPlane:
    """(H, W, 3) or broadcast to it: what places add; terms are (3, 4)."""
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    across, down, both, constant = terms.T
    return np.asarray(across * x + (down * y + constant) + both * (x * y), np.float32)

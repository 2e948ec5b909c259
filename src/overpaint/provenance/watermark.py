"""An invisible watermark inside the edited part of a picture, and its detector.

The scheme, in full, so that others can read it. A tile of 64 x 64 values is made of 4,096 bytes of
SHAKE-256 of `KEY`: their spectrum keeps its phases between 0.12 and 0.48 cycles per value, with
magnitude 1, and is 0 elsewhere. Twice as large, without new frequencies, and repeated, the tile is
added to the brightness of what was edited; everything else keeps its bytes. Its strength follows
what the surroundings hide, and is only as large as JPEG at quality 80 and half the size need.

The detector needs neither the original nor the place: for each scale between half and full size it
brings the picture to half of the size that it then had, keeps those frequencies, levels their local
strength, and correlates with the tile. For pixels that know nothing of the tile the score is
normally distributed: it is a sum over random phases. A pattern that repeats has few frequencies, of
which some may fit; so the phases of all must fit, too, each counted alike.

After Cox et al., "Secure spread spectrum watermarking for multimedia" (1997), and Kutter,
"Watermarking resistant to translation, rotation, and scaling" (1998), for the repeated tile.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from overpaint.core.geometry import Box
from overpaint.core.imaging.images import Picture

Plane = NDArray[np.float32]

KEY = b"overpaint watermark 1"

THRESHOLD = 7.2
"""Least score that counts. Noise has it once in 3e12 tries; a photo of 12 megapixels makes 3e8."""

SMALLEST = 64 * 64
"""Edited pixels below which there is no room for a watermark."""

_TILE = 64
_BAND = (0.12, 0.48)
"""Cycles per value of the tile."""

_SCALES = tuple(float(each) for each in np.geomspace(1.0, 0.5, 29))
_FINER = tuple(float(each) for each in np.linspace(0.988, 1.012, 7))
_LOOKED_AT_AGAIN = 4
_TILES = ((1, 1), (1, 2), (2, 1), (2, 2), (3, 3))
"""Tiles beside and above each other whose correlations are added up."""

_BLOCK = 1024
"""Side of what is looked at at a time."""

_EMPHASIS = 1.2
"""Photos have less of high frequencies, by about this power."""

_ALIKE = 1.6
"""A score this many times that of all phases comes from a few frequencies alone."""

_LEVELLING = 13
_MOST = 2.0
_STRENGTHS = (0.6, 0.8, 1.1, 1.5, 2.0, 2.6)
"""Levels of 255 that are tried where nothing hides them; `_visibility` makes them larger."""

_MARGIN = 1.6
"""By which the score is above the threshold in trials; a file's way may be a little worse."""

_TRIAL_SIDE = 448
_AROUND = 32
"""Pixels."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Watermark:
    """What the detector found.

    Attributes:
        score: how sure it is; `THRESHOLD` and more.
        scale: of the picture since it was marked, about.
        box: where most of it is, in pixels.
    """

    score: float
    scale: float
    box: Box


class _Sighting(NamedTuple):
    """A place in the picture that looks like the tile at a scale."""

    score: float
    scale: float
    box: tuple[float, float, float, float]

    def watermark(self, size: tuple[int, int]) -> Watermark:
        """The finding, for a picture of (width, height)."""
        left, top, right, bottom = map(round, self.box)
        box = Box(left, top, min(size[0], right), min(size[1], bottom))
        return Watermark(score=round(self.score, 1), scale=round(self.scale, 2), box=box)


class _Peak(NamedTuple):
    """The best place of one look, in values of half the marked picture's size."""

    score: float
    left: int
    top: int
    side: tuple[int, int]


def embed(picture: Picture, source: Picture) -> Picture:
    """The picture with a watermark in what differs from its source.

    Args:
        picture: a result.
        source: what was edited; one of another size counts as different everywhere.

    Returns:
        The picture itself where too little was edited.
    """
    changed = _edited_pixels(picture, source)
    if np.count_nonzero(changed) < SMALLEST:
        return picture
    box = _surroundings(changed)
    inside = changed[box.top : box.bottom, box.left : box.right]
    own = np.asarray(picture.own_image().crop(box.as_tuple())).astype(np.float32)
    grey = own if own.ndim == 2 else own @ _LUMA
    anchor = _fullest(inside)
    pattern = _tiling(grey.shape, anchor) * _visibility(grey) * inside
    trial = _trial(anchor)
    for strength in _STRENGTHS:
        if _survives(_as_levels(grey + strength * pattern)[trial]):
            break
    shift = strength * pattern
    marked_pixels = _as_levels(own + (shift if own.ndim == 2 else shift[..., np.newaxis]))
    alpha = Image.fromarray((inside * 255).astype(np.uint8))
    return picture.blended(Image.fromarray(marked_pixels), alpha, box, in_srgb=False)


def find(picture: Picture) -> Watermark | None:
    """The watermark of a picture; None = there is none, or nothing is left of it.

    Takes some seconds for a megapixel without one.
    """
    grey = picture.own_image().convert("L")
    sightings: list[_Sighting] = []
    for scale in _SCALES:
        peak = _look(_reference(grey, scale))
        if peak is None:
            continue
        sightings.append(_sighting_of(peak, scale))
        if peak.score >= THRESHOLD + _MARGIN:
            break
    likeliest = sorted(sightings, key=lambda each: -each.score)[:_LOOKED_AT_AGAIN]
    best = max((_refine(grey, each) for each in likeliest), default=None)
    if best is None or best.score < THRESHOLD:
        return None
    return best.watermark(grey.size)


def _sighting_of(peak: _Peak, scale: float, at: tuple[float, float] = (0, 0)) -> _Sighting:
    """A peak in pixels of a picture, of whose scaled part it is; `at` is where that begins."""
    zoom = 2 * scale
    left, top = at[0] + peak.left * zoom, at[1] + peak.top * zoom
    width, height = (extent * zoom for extent in peak.side)
    return _Sighting(peak.score, scale, (left, top, left + width, top + height))


def _refine(grey: Image.Image, sighting: _Sighting) -> _Sighting:
    """The same place at finer scales, and between pixels."""
    best = sighting
    left, top, right, bottom = sighting.box
    for step in _FINER:
        zoom = 2 * sighting.scale * step
        for x, y in ((0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)):
            start = (
                max(0.0, left - (_TILE // 4 - x) * zoom),
                max(0.0, top - (_TILE // 4 - y) * zoom),
            )
            ends = (right, bottom)
            size = [
                int((min(most, end + _TILE // 4 * zoom) - begin) / zoom)
                for begin, end, most in zip(start, ends, grey.size, strict=True)
            ]
            if min(size) < _TILE:
                continue
            part = (*start, start[0] + size[0] * zoom, start[1] + size[1] * zoom)
            image = grey.resize((size[0], size[1]), Image.Resampling.LANCZOS, box=part)
            peak = _look(image)
            if peak is not None:
                best = max(best, _sighting_of(peak, zoom / 2, start))
    return best


def _edited_pixels(picture: Picture, source: Picture) -> NDArray[np.bool_]:
    """(H, W): the pixels that were edited."""
    width, height = picture.size
    after, before = _values(picture), _values(source)
    if after.shape != before.shape or after.dtype != before.dtype:
        after, before = (np.asarray(each.rgb) for each in (picture, source))
    if after.shape != before.shape:
        return np.ones((height, width), bool)
    different: NDArray[np.bool_] = (after != before).any(axis=2)
    return different


def _values(picture: Picture) -> NDArray[Any]:
    return np.asarray(picture.rgb) if picture.raster is None else picture.raster.values


def _surroundings(changed: NDArray[np.bool_]) -> Box:
    """The edited area and a little around it, from even coordinates on."""
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    height, width = changed.shape
    left, top = (max(0, int(each[0]) - _AROUND) // 2 * 2 for each in (columns, rows))
    right, bottom = int(columns[-1]) + 1 + _AROUND, int(rows[-1]) + 1 + _AROUND
    return Box(left, top, min(width, right), min(height, bottom))


def _fullest(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """(y, x) where a tile begins that has most of what was edited.

    At even places, so that the picture at half its size has whole values of the tile.
    """
    full = ndimage.uniform_filter(
        inside.astype(np.float32), 2 * _TILE, mode="constant", origin=-_TILE
    )
    even = full[::2, ::2]
    y, x = np.unravel_index(int(even.argmax()), even.shape)
    return 2 * int(y), 2 * int(x)


@cache
def _phases() -> NDArray[np.complex64]:
    """(64, 33): the tile's spectrum, of magnitude 1 within the band and 0 elsewhere."""
    noise = np.frombuffer(hashlib.shake_256(KEY).digest(_TILE * _TILE), np.int8)
    spectrum = fft.rfft2(noise.reshape(_TILE, _TILE).astype(np.float64))
    within = _within(_frequencies(_TILE, _TILE))
    return np.where(within, spectrum / np.abs(spectrum), 0).astype(np.complex64)


@cache
def _tile() -> Plane:
    """(64, 64), of variance 1."""
    values = fft.irfft2(_phases(), s=(_TILE, _TILE))
    return np.asarray(values / values.std(), np.float32)


@cache
def _large_tile() -> Plane:
    """(128, 128), of variance 1: the tile twice as large."""
    side, half = 2 * _TILE, _TILE // 2
    spectrum = np.zeros((side, _TILE + 1), np.complex128)
    spectrum[:half, :half] = _phases()[:half, :half]
    spectrum[1 - half :, :half] = _phases()[1 - half :, :half]
    # Half a pixel on: a pixel of half the size is the middle of two.
    rows, columns = fft.fftfreq(side)[:, np.newaxis], fft.rfftfreq(side)[np.newaxis]
    values = fft.irfft2(spectrum * np.exp(-1j * np.pi * (rows + columns)), s=(side, side))
    return np.asarray(values / values.std(), np.float32)


def _tiling(shape: tuple[int, ...], anchor: tuple[int, int]) -> Plane:
    tile = np.roll(_large_tile(), anchor, axis=(0, 1))
    side = 2 * _TILE
    repeats = [-(-length // side) for length in shape[:2]]
    return np.tile(tile, repeats)[: shape[0], : shape[1]]


def _visibility(grey: Plane) -> Plane:
    """How much stronger the watermark may be at each pixel: busy areas hide more."""
    detail = grey - ndimage.gaussian_filter(grey, 3)
    activity = np.sqrt(ndimage.gaussian_filter(detail * detail, 3))
    # Flat areas beside an edge hide nothing.
    hidden = ndimage.minimum_filter(activity, 9)
    return np.asarray(np.clip(0.8 + hidden / 6, 0.8, 3.0), np.float32)


def _as_levels(values: Plane) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _trial(anchor: tuple[int, int]) -> tuple[slice, slice]:
    """The part around a tile that is tried out: no more than it takes to know."""
    rows, columns = (
        slice(start := max(0, at + _TILE - _TRIAL_SIDE // 2) // 2 * 2, start + _TRIAL_SIDE)
        for at in anchor
    )
    return rows, columns


def _survives(marked_pixels: NDArray[np.uint8]) -> bool:
    """Whether JPEG at quality 80, and half of the size, leave enough of it."""
    image = Image.fromarray(marked_pixels)
    compressed = io.BytesIO()
    image.save(compressed, "JPEG", quality=80)
    for variant, scale in ((Image.open(compressed), 1.0), (_reference(image, 1.0), 0.5)):
        peak = _look(variant if scale == 0.5 else _reference(variant, scale))
        if peak is None or peak.score < THRESHOLD + _MARGIN:
            return False
    return True


def _reference(grey: Image.Image, scale: float) -> Image.Image:
    """A picture at half of the size that it had before it was scaled by `scale`."""
    zoom = 0.5 / scale
    size = (max(1, round(grey.width * zoom)), max(1, round(grey.height * zoom)))
    return grey if size == grey.size else grey.resize(size, Image.Resampling.LANCZOS)


def _look(image: Image.Image) -> _Peak | None:
    """The best place for the tile; None = the picture is smaller than one."""
    values = np.asarray(image).astype(np.float32)
    peaks = [
        peak._replace(left=peak.left + left, top=peak.top + top)
        for left, top, block in _blocks(values)
        if (peak := _best(block)) is not None
    ]
    return max(peaks, default=None)


def _blocks(values: Plane) -> Iterator[tuple[int, int, Plane]]:
    """Overlapping parts, so that memory does not grow with the picture."""
    step = _BLOCK - 3 * _TILE
    height, width = values.shape
    for top in range(0, max(1, height - 3 * _TILE), step):
        for left in range(0, max(1, width - 3 * _TILE), step):
            yield left, top, values[top : top + _BLOCK, left : left + _BLOCK]


def _best(values: Plane) -> _Peak | None:
    """The highest score of all places and numbers of tiles."""
    if min(values.shape) < _TILE:
        return None
    correlation, energy, levelled = _correlations(values)
    best = None
    for rows, columns in _TILES:
        height = correlation.shape[0] - (rows - 1) * _TILE
        width = correlation.shape[1] - (columns - 1) * _TILE
        if height <= 0 or width <= 0:
            continue
        places = [
            (slice(row * _TILE, row * _TILE + height), slice(col * _TILE, col * _TILE + width))
            for row in range(rows)
            for col in range(columns)
        ]
        deviation = np.sqrt(sum(energy[place] for place in places))
        scores = sum(correlation[place] for place in places) / deviation
        top, left = np.unravel_index(int(scores.argmax()), scores.shape)
        end = (int(top) + rows * _TILE, int(left) + columns * _TILE)
        agreement = _agreement(levelled[top : end[0], left : end[1]])
        score = min(float(scores[top, left]), _ALIKE * agreement)
        peak = _Peak(score, int(left), int(top), (columns * _TILE, rows * _TILE))
        best = peak if best is None else max(best, peak)
    return best


def _agreement(tiles: Plane) -> float:
    """How well the phases of all frequencies fit, in standard deviations of random ones."""
    rows, columns = (length // _TILE for length in tiles.shape)
    folded = tiles.reshape(rows, _TILE, columns, _TILE).sum(axis=(0, 2))
    phases = _phases()[:, 1 : _TILE // 2]  # the first column has some of them twice
    spectrum = fft.rfft2(folded)[:, 1 : _TILE // 2]
    fit = (spectrum * np.conj(phases)).real / np.maximum(np.abs(spectrum), 1e-9)
    return float(fit.sum() / np.sqrt(np.count_nonzero(phases) / 2))


def _correlations(values: Plane) -> tuple[Plane, Plane, Plane]:
    """For each place of a tile, its correlation with the tile, and the variance of that in noise.

    The third is what was correlated: the values within the band, levelled.
    """
    height, width = values.shape
    shape = tuple(fft.next_fast_len(each + _TILE, real=True) for each in values.shape)
    padded = np.pad(
        values, [(0, long - short) for long, short in zip(shape, values.shape, strict=True)], "edge"
    )
    frequencies = _frequencies(*shape)
    within = _within(frequencies)
    band = fft.irfft2(fft.rfft2(padded) * within * frequencies**_EMPHASIS, s=shape)
    level = np.sqrt(ndimage.uniform_filter(band * band, _LEVELLING)) + 0.02
    levelled = np.clip(band / level, -_MOST, _MOST)
    levelled[height:], levelled[:, width:] = 0, 0
    spectrum = fft.rfft2(levelled) * within
    even = fft.irfft2(spectrum, s=shape)[:height, :width]
    tile = np.zeros(shape, np.float32)
    tile[:_TILE, :_TILE] = _tile()
    correlation = fft.irfft2(spectrum * np.conj(fft.rfft2(tile)), s=shape)
    area = ndimage.uniform_filter(even * even, _TILE, origin=-_TILE // 2) * _TILE**2
    places = (slice(height - _TILE + 1), slice(width - _TILE + 1))
    energy = np.maximum(area[places], 1e-3 * _TILE**2) / _share()
    return correlation[places], energy, even


@cache
def _share() -> float:
    """The share of all frequencies that is in the band."""
    within = np.abs(_phases()) > 0
    return float(2 * within[:, 1:].sum() + within[:, 0].sum()) / _TILE**2


def _frequencies(height: int, width: int) -> Plane:
    """(height, width // 2 + 1): cycles per value."""
    rows, columns = fft.fftfreq(height), fft.rfftfreq(width)
    return np.asarray(np.hypot(rows[:, np.newaxis], columns[np.newaxis]), np.float32)


def _within(frequencies: Plane) -> NDArray[np.bool_]:
    low, high = _BAND
    inside: NDArray[np.bool_] = (frequencies >= low) & (frequencies <= high)
    return inside

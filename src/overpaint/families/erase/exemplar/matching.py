"""Filling one layer: match every patch over the hole, vote, repeat."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from . import kernels, lines
from .bands import THREADS
from .offsets import repeating_steps
from .pyramid import Layer, spread_in
from .types import CHANNELS, BoolMask, Float, Index

TRUST = 3.0  # a patch one pixel further inside the hole counts this much less
NEARNESS = 3.0  # toll on a source per pixel of distance, per pixel of the patch
SOFTNESS = 4.0  # bandwidth of the votes on the way: nearly plain means, which agree on structure
FINAL_SOFTNESS = 3.0  # bandwidth of the last vote
ROUNDS_COARSEST, ROUNDS, ROUNDS_FINEST = 6, 12, 10  # of matching and voting
PASSES = 2  # of PatchMatch in a round
WIDE_PASSES = 2  # that search the whole picture; later ones look around what they have
NEARBY = 8  # pixels
FEWEST_ROUNDS = 1
WORK = 700_000  # targets times rounds beyond which a layer gets fewer rounds
EXHAUSTIVE = 3_000_000  # pairs of target and source compared; of more, every n-th source
FIRST_GUESS = 0.1  # weight of guessed pixels against known ones in that comparison
GUIDE = 0.3  # the same for pixels of the guide
GUIDE_PULL = 0.5  # of the way from the votes to the guide, after the first rounds
WORSE = 1.03  # how much worse a filling begun with lines may fit than one begun with peels
PEEL = 2.0  # pixels by which the filling of the coarsest layer proceeds inwards each time


@dataclass(eq=False)
class Field:
    """Which source each target patch of a layer copies.

    Attributes:
        place: (H, W), the number of the target at each corner, -1 elsewhere.
        target_y, target_x, source_y, source_x: (n,) corners.
        cost: (n,) how badly each fits.
    """

    place: Index
    target_y: Index
    target_x: Index
    source_y: Index
    source_x: Index
    cost: Float


@dataclass(eq=False)
class Votes:
    """What the sources say about the pixels (m,) of the hole and its rim; see `kernels.vote`."""

    pixel_y: Index
    pixel_x: Index
    colour: Float
    right: Float
    down: Float
    energy: Float


class Matcher:
    """Fills one layer in place, from a guess or from the next coarser layer's field.

    Args:
        layer: what is filled.
        coarser: the next coarser layer's field; None on the coarsest.
        seed: of the random search.
        with_lines: whether the coarsest layer is begun with lines rather than with peels.
    """

    def __init__(
        self, layer: Layer, coarser: Field | None, seed: int, *, with_lines: bool = False
    ) -> None:
        self.layer = layer
        self._guide: Float | None = None
        self._rng = np.random.default_rng((seed, layer.hole.size))
        self._height, self._width = layer.hole.shape
        self._near = NEARNESS * layer.size**2
        self._sources = np.argwhere(layer.allowed).astype(np.int32)
        self.field = self._new_field()
        self.votes = self._no_votes()
        self._doubt = self._doubt_of_targets()
        self._passes = 0
        self._steps = repeating_steps(layer.values, ~layer.hole, layer.size)
        if coarser is not None:
            self._refine(coarser)
        elif with_lines:
            self._follow_lines()
        else:
            self._peel()

    def vote(self, *, last: bool) -> None:
        """The sources' colours for every pixel; ends a round, after `PASSES` searches."""
        self._vote(FINAL_SOFTNESS if last else SOFTNESS)
        if self._guide is not None:
            self._pull(self._guide)

    def mismatch(self) -> float:
        """How badly the sources fit the present filling on average; compare within a layer."""
        self.search()
        return float(self.field.cost.mean())

    def _new_field(self) -> Field:
        y, x = (index.astype(np.int32) for index in np.nonzero(_targets(self.layer)))
        place = np.full(self.layer.hole.shape, -1, np.int32)
        place[y, x] = np.arange(y.size, dtype=np.int32)
        pick = self._sources[self._rng.integers(len(self._sources), size=y.size)]
        sources = np.ascontiguousarray(pick.T)
        return Field(place, y, x, sources[0], sources[1], np.zeros(y.size, np.float32))

    def _no_votes(self) -> Votes:
        ring = np.ones((3, 3), np.uint8)
        wide = cv2.dilate(self.layer.hole.astype(np.uint8), ring)
        y, x = (index.astype(np.int32) for index in np.nonzero(wide))
        colour, right, down = (np.zeros((y.size, CHANNELS), np.float32) for _ in range(3))
        return Votes(y, x, colour, right, down, np.zeros((y.size, 2), np.float32))

    def _doubt_of_targets(self) -> Float:
        """Low for targets whose middle is near the rim (Wexler et al. 2007)."""
        return np.asarray(np.log(TRUST) * self._middles(self._inside()), np.float32)

    def _middles(self, values: Float) -> Float:
        """The values (n,) of (H, W) in the targets' middles."""
        half = self.layer.size // 2
        return values[self.field.target_y + half, self.field.target_x + half]

    def _inside(self) -> Float:
        """Each pixel's distance to the nearest pixel that is not of the hole."""
        return np.asarray(
            cv2.distanceTransform(self.layer.hole.astype(np.uint8), cv2.DIST_L2, 5), np.float32
        )

    def _follow_lines(self) -> None:
        """The coarsest layer: a smooth filling that no line crosses, then sources like it."""
        layer = self.layer
        layer.values = lines.continuation(layer.values, layer.hole)
        self._guide = layer.values.copy()
        certainty = np.where(layer.hole, GUIDE, 1).astype(np.float32)
        self._compare_all(certainty, np.arange(self.field.cost.size, dtype=np.int32))
        self._vote(SOFTNESS)

    def _pull(self, guide: Float) -> None:
        """Draws the filling towards the guide, less in each round, in the last one not at all."""
        hole, values = self.layer.hole, self.layer.values
        pull = GUIDE_PULL * max(0.0, 1 - self._passes / (PASSES * ROUNDS_COARSEST))
        values[hole] += np.float32(pull) * (guide[hole] - values[hole])

    def _peel(self) -> None:
        """The coarsest layer: a smooth filling, then sources peel by peel from the rim inwards."""
        layer = self.layer
        layer.values = np.ascontiguousarray(spread_in(layer.values, layer.hole))
        inside = self._inside()
        middle = self._middles(inside)
        for depth in np.arange(0, inside.max(), PEEL):
            certainty = np.where(inside <= depth, 1, FIRST_GUESS).astype(np.float32)
            ahead = (middle > depth - layer.size) & (middle <= depth + layer.size)
            self._compare_all(certainty, np.flatnonzero(ahead).astype(np.int32))
            self._vote(SOFTNESS)

    def _refine(self, coarser: Field) -> None:
        """Takes over the coarser layer's sources at twice their offsets, and votes with them."""
        field, allowed = self.field, self.layer.allowed
        # The last patches of a line have no parent at half their place: it would not fit there.
        last_y, last_x = (side - self.layer.size for side in coarser.place.shape)
        parent = coarser.place[
            np.minimum(field.target_y // 2, last_y), np.minimum(field.target_x // 2, last_x)
        ]
        y = field.target_y + 2 * (coarser.source_y - coarser.target_y)[parent]
        x = field.target_x + 2 * (coarser.source_x - coarser.target_x)[parent]
        good = (parent >= 0) & (y >= 0) & (x >= 0) & (y < self._height) & (x < self._width)
        good[good] = allowed[y[good], x[good]]
        field.source_y[good], field.source_x[good] = y[good], x[good]
        field.cost[:] = np.where(good, coarser.cost[parent], coarser.cost.max(initial=1) * 10)
        if not good.all():
            self.layer.values = np.ascontiguousarray(spread_in(self.layer.values, self.layer.hole))
        self._vote(SOFTNESS)

    def _compare_all(self, certainty: Float, targets: Index) -> None:
        layer, field = self.layer, self.field
        every = -(-field.cost.size * len(self._sources) // EXHAUSTIVE)
        allowed_y, allowed_x = np.ascontiguousarray(self._sources[::every].T)
        THREADS.in_bands(
            targets.size,
            lambda start, stop: kernels.compare_all(
                self._rows(), layer.size, certainty, targets, field.target_y, field.target_x,
                allowed_y, allowed_x, layer.price, self._near, start, stop,
                field.source_y, field.source_x, field.cost,
            ),
        )  # fmt: skip

    def search(self) -> None:
        """Look for a better source for every target, once."""
        layer, field = self.layer, self.field
        old_y, old_x = field.source_y.copy(), field.source_x.copy()
        self._passes += 1
        reach = max(layer.hole.shape) if self._passes <= WIDE_PASSES else NEARBY
        seed = int(self._rng.integers(1 << 30))
        THREADS.in_bands(
            field.cost.size,
            lambda start, stop: kernels.search(
                self._rows(), layer.size, field.place, field.target_y, field.target_x,
                layer.allowed, layer.price, old_y, old_x, field.source_y, field.source_x,
                field.cost,
                self._steps, self._near, reach, start, stop, self._passes % 2 == 0, seed,
            ),
        )  # fmt: skip

    def _vote(self, softness: float) -> None:
        layer, field, votes = self.layer, self.field, self.votes
        THREADS.in_bands(
            votes.pixel_y.size,
            lambda start, stop: kernels.vote(
                self._rows(), layer.size, field.place, field.source_y, field.source_x,
                field.cost, self._doubt, votes.pixel_y, votes.pixel_x, softness, start, stop,
                votes.colour, votes.right, votes.down, votes.energy,
            ),
        )  # fmt: skip
        inside = layer.hole[votes.pixel_y, votes.pixel_x]
        layer.values[votes.pixel_y[inside], votes.pixel_x[inside]] = votes.colour[inside]

    def _rows(self) -> Float:
        return self.layer.values.reshape(self._height, self._width * CHANNELS)


def rounds(layer: Layer, *, coarsest: bool, finest: bool) -> int:
    """How many rounds a layer deserves: fewer on huge ones, which arrive nearly done."""
    limit = ROUNDS_COARSEST if coarsest else ROUNDS_FINEST if finest else ROUNDS
    work = max(1, int(np.count_nonzero(_targets(layer))))
    return max(FEWEST_ROUNDS, min(limit, WORK // work))


def _targets(layer: Layer) -> BoolMask:
    """The corners of all patches that hold a pixel of the hole."""
    last = layer.size - 1
    height, width = layer.hole.shape
    kernel = np.ones((layer.size, layer.size), np.uint8)
    touches = np.asarray(cv2.dilate(layer.hole.astype(np.uint8), kernel, anchor=(0, 0)), bool)
    touches[height - last :] = False
    touches[:, width - last :] = False
    return touches


def better_start(matchers: list[Matcher]) -> Matcher:
    """The way to begin a layer (peels, lines) whose sources fit better, of one or two.

    Lines win unless they are clearly worse: they leave more of what is behind the hole in order.
    """
    if len(matchers) == 1:
        return matchers[0]
    peels, lined = matchers
    return lined if lined.mismatch() <= WORSE * peels.mismatch() else peels

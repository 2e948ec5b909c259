"""A scene as data, and how scenes are sampled.

Lengths and positions are in units of the picture's side, x to the right, y down, so that a scene
can be rendered at any size. Every edit of a scene is another scene: the true 'after' is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from training.world.palette import (
    BACKGROUND_COLOURS,
    BACKGROUND_KINDS,
    HELD_OUT,
    PLACES,
    SEEN,
)

Split = Literal["train", "heldout"]
"""'train': only pairs that training may show; 'heldout': the named thing is a held-out pair."""

RADII: dict[str, tuple[float, float]] = {"small": (0.155, 0.175), "large": (0.225, 0.25)}
"""Radius ranges by size name: even the small ones survive an 8x autoencoder."""

MAX_ROTATION = math.radians(15)


@dataclass(frozen=True)
class Thing:
    """One object: a flat shape of one colour that throws a shadow on the ground."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    rotation: float = 0.0

    @property
    def pair(self) -> tuple[str, str]:
        """The (colour, shape) pair that names the thing."""
        return self.colour, self.shape

    @property
    def size(self) -> str:
        """'small' or 'large'."""
        return "small" if self.radius < 0.2 else "large"


@dataclass(frozen=True)
class Background:
    """The ground: a named colour, drawn plain, as a gradient, striped or checked."""

    colour: str
    kind: str
    phase: float = 0.0


@dataclass(frozen=True)
class Light:
    """Where shadows fall, in radii of the thing that throws them, and how dark they are (0..1)."""

    dx: float
    dy: float
    strength: float


@dataclass(frozen=True)
class Scene:
    """Everything that the renderer needs: ground, light, things (far to near), exposure, blur."""

    background: Background
    light: Light
    things: tuple[Thing, ...] = field(default=())
    exposure: float = 1.0
    blur: float = 0.0

    def without(self, index: int) -> Scene:
        """The same scene with one thing (and so its shadow) gone."""
        return replace(self, things=self.things[:index] + self.things[index + 1 :])

    def with_thing(self, thing: Thing) -> Scene:
        """The same scene with one more thing, nearest to the viewer."""
        return replace(self, things=(*self.things, thing))

    def with_changed(self, index: int, **changes: object) -> Scene:
        """The same scene with fields of one thing replaced."""
        changed = replace(self.things[index], **changes)  # type: ignore[arg-type]
        return replace(self, things=(*self.things[:index], changed, *self.things[index + 1 :]))


def sample_background(rng: np.random.Generator) -> Background:
    """A ground of any colour and kind."""
    return Background(
        colour=str(rng.choice(list(BACKGROUND_COLOURS))),
        kind=str(rng.choice(BACKGROUND_KINDS)),
        phase=float(rng.random()),
    )


def sample_light(rng: np.random.Generator) -> Light:
    """Light from above, a little from the left or the right."""
    return Light(
        dx=float(rng.uniform(-0.4, 0.4)),
        dy=float(rng.uniform(0.3, 0.45)),
        strength=float(rng.uniform(0.4, 0.55)),
    )


def sample_pair(
    rng: np.random.Generator,
    avoid_colours: Sequence[str] = (),
    avoid_shapes: Sequence[str] = (),
    heldout: bool = False,
) -> tuple[str, str]:
    """A (colour, shape) pair, of those that training may show or of those held out."""
    pairs = [
        pair
        for pair in (sorted(HELD_OUT) if heldout else SEEN)
        if pair[0] not in avoid_colours and pair[1] not in avoid_shapes
    ]
    return pairs[int(rng.integers(len(pairs)))]


def sample_radius(rng: np.random.Generator, size: str) -> float:
    """A radius that the size name allows."""
    return float(rng.uniform(*RADII[size]))


def sample_rotation(rng: np.random.Generator) -> float:
    """A small rotation in radians: large ones would turn a square into a diamond."""
    return float(rng.uniform(-MAX_ROTATION, MAX_ROTATION))


def reach(radius: float) -> float:
    """How far from its centre a thing may draw (the corners of a square, a triangle's tip)."""
    return 1.12 * radius


def fits(thing: Thing, others: Sequence[Thing]) -> bool:
    """Whether the thing lies inside the picture and clear of the others and of their shadows."""
    edge = reach(thing.radius)
    if not (edge <= thing.x <= 1 - edge and edge <= thing.y <= 1 - 1.3 * edge):
        return False
    return all(
        math.hypot(thing.x - other.x, thing.y - other.y) > 1.12 * (thing.radius + other.radius)
        for other in others
    )


def place_thing(
    rng: np.random.Generator,
    pair: tuple[str, str],
    others: Sequence[Thing] = (),
    size: str | None = None,
    place: str | None = None,
    tries: int = 60,
) -> Thing | None:
    """A thing of that pair somewhere free, or near the named place; None where none fits."""
    for _ in range(tries):
        radius = sample_radius(rng, size or str(rng.choice(["small", "small", "large"])))
        if place is None:
            x, y = (float(v) for v in rng.uniform(0.1, 0.9, 2))
        else:
            x, y = (float(v) for v in np.array(PLACES[place]) + rng.uniform(-0.04, 0.04, 2))
            edge = reach(radius)
            x, y = min(max(x, edge), 1 - edge), min(max(y, edge), 1 - 1.3 * edge)
        thing = Thing(*pair, x=x, y=y, radius=radius, rotation=sample_rotation(rng))
        if fits(thing, others):
            return thing
    return None


def sample_scene(
    rng: np.random.Generator,
    count: int | None = None,
    distinct: bool = True,
    heldout_first: bool = False,
) -> Scene:
    """A scene of 1 to 4 things (fewer where there is no room).

    Args:
        rng: the only source of chance.
        count: how many things to try for; None draws 1..4.
        distinct: no two things share a colour or a shape, so that either names a thing.
        heldout_first: the first thing is a held-out pair.
    """
    wanted = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.4, 0.2, 0.1])) if count is None else count
    scene = Scene(background=sample_background(rng), light=sample_light(rng))
    for index in range(wanted):
        pair = sample_pair(
            rng,
            avoid_colours=[t.colour for t in scene.things] if distinct else (),
            avoid_shapes=[t.shape for t in scene.things] if distinct else (),
            heldout=heldout_first and index == 0,
        )
        thing = place_thing(rng, pair, scene.things, size="small" if wanted > 2 else None)
        if thing is not None:
            scene = scene.with_thing(thing)
    return scene


def named_place(thing: Thing) -> str:
    """The name of the place nearest to a thing."""
    return min(PLACES, key=lambda name: math.dist(PLACES[name], (thing.x, thing.y)))

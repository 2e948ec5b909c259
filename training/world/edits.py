"""Instructions with their true result: a scene before, words, the scene after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from training.world.captions import (
    Meaning,
    Text,
    background_words,
    pick,
    reference_to,
    thing_words,
    with_article,
)
from training.world.masks import Mask
from training.world.palette import BACKGROUND_COLOURS, COLOURS, HELD_OUT, PLACES, SHAPES
from training.world.render import DEFAULT_SIZE, footprint
from training.world.scene import (
    Background,
    Scene,
    Split,
    Thing,
    fits,
    named_place,
    place_thing,
    sample_scene,
)

InstructionKind = Literal[
    "recolour",
    "remove",
    "add",
    "move",
    "replace",
    "resize",
    "background",
    "brighten",
    "darken",
    "blur",
    "keep",
]
INSTRUCTION_KINDS: tuple[InstructionKind, ...] = (
    "recolour",
    "remove",
    "add",
    "move",
    "replace",
    "resize",
    "background",
    "brighten",
    "darken",
    "blur",
    "keep",
)

BRIGHTER = 1.35
DARKER = 0.6
BLUR = 0.028
GROWTH = 1.4


@dataclass(frozen=True)
class InstructionTask:
    """One instruction, the scene before it and the true scene after it.

    `old` is the thing that the instruction names as it was, `new` the thing as it shall be.
    """

    kind: InstructionKind
    before: Scene
    after: Scene
    text: Text
    old: Thing | None = None
    new: Thing | None = None

    @property
    def instruction(self) -> str:
        """The words."""
        return self.text.words

    def edited_region(self, size: int = DEFAULT_SIZE) -> Mask:
        """Pixels that the edit may change: footprints of the old and the new thing, or all."""
        if self.old is None and self.new is None:
            return np.full((size, size), self.kind != "keep")
        region = np.zeros((size, size), bool)
        for thing in (self.old, self.new):
            if thing is not None:
                region |= footprint(thing, self.before.light, size)
        return region


_Draw = Callable[[np.random.Generator, Scene, Split], "InstructionTask | None"]


def sample_instruction_task(
    rng: np.random.Generator,
    split: Split = "train",
    kind: InstructionKind | None = None,
    count: int | None = None,
) -> InstructionTask:
    """Draws one task.

    Args:
        rng: the only source of chance.
        split: with 'heldout', the thing that the instruction names (for recolour, replace and add:
            the thing to be made) is a pair that training never shows.
        kind: one of INSTRUCTION_KINDS; None draws one.
        count: things in the scene before; None draws 1..3, mostly 2 or 3.
    """
    weights = np.array([_WEIGHTS[k] for k in INSTRUCTION_KINDS])
    chosen = (
        kind
        or INSTRUCTION_KINDS[int(rng.choice(len(INSTRUCTION_KINDS), p=weights / weights.sum()))]
    )
    makes_new = chosen in ("recolour", "replace", "add")
    while True:
        things = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3])) if count is None else count
        heldout_first = split == "heldout" and not makes_new
        scene = sample_scene(rng, things, heldout_first=heldout_first)
        task = _DRAWS[chosen](rng, scene, split)
        if task is not None:
            return task


def follow_up(
    rng: np.random.Generator, scene: Scene, kind: InstructionKind, split: Split = "train"
) -> InstructionTask | None:
    """One task on a scene that is there already; None where that kind does not fit it.

    Args:
        rng: the only source of chance.
        scene: with at least one thing.
        kind: one of INSTRUCTION_KINDS.
        split: as for `sample_instruction_task`.
    """
    return _DRAWS[kind](rng, scene, split)


_WEIGHTS: dict[str, float] = {
    "recolour": 1.5,
    "remove": 1.6,
    "add": 1.4,
    "move": 1.4,
    "replace": 1.5,
    "resize": 1.0,
    "background": 1.0,
    "brighten": 0.5,
    "darken": 0.5,
    "blur": 0.5,
    "keep": 0.5,
}


def _may_show(pair: tuple[str, str], split: Split) -> bool:
    return (pair in HELD_OUT) == (split == "heldout")


def _recolour(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask | None:
    index = int(rng.integers(len(scene.things)))
    old = scene.things[index]
    taken = {thing.colour for thing in scene.things}
    free = [c for c in COLOURS if c not in taken and _may_show((c, old.shape), split)]
    if not free:
        return None
    colour = str(rng.choice(free))
    the, said_colour, said_shape = reference_to(rng, old, _others(scene, index))
    words = pick(
        rng,
        f"make {the} {colour}",
        f"turn {the} {colour}",
        f"paint {the} {colour}",
        f"color {the} {colour}",
        f"change the color of {the} to {colour}",
        f"recolor {the} to {colour}",
    )
    meaning = Meaning("recolour", colour, old_colour=said_colour, old_shape=said_shape)
    after = scene.with_changed(index, colour=colour)
    new = after.things[index]
    return InstructionTask("recolour", scene, after, Text(words, meaning), old, new)


def _remove(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    index = 0 if split == "heldout" else int(rng.integers(len(scene.things)))
    old = scene.things[index]
    the, said_colour, said_shape = reference_to(rng, old, _others(scene, index))
    words = pick(
        rng,
        f"remove {the}",
        f"delete {the}",
        f"erase {the}",
        f"take away {the}",
        f"get rid of {the}",
        f"remove {the} from the picture",
    )
    meaning = Meaning("remove", old_colour=said_colour, old_shape=said_shape)
    return InstructionTask("remove", scene, scene.without(index), Text(words, meaning), old)


def _add(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask | None:
    pairs = [
        (colour, shape)
        for colour in COLOURS
        for shape in SHAPES
        if _may_show((colour, shape), split)
        and all(colour != t.colour and shape != t.shape for t in scene.things)
    ]
    if not pairs:
        return None
    pair = pairs[int(rng.integers(len(pairs)))]
    place = str(rng.choice(list(PLACES)))
    new = place_thing(rng, pair, scene.things, size="small", place=place, tries=8)
    if new is None:
        return None
    what = with_article(thing_words(*pair))
    where = _at(rng, place)
    words = pick(rng, f"add {what} {where}", f"put {what} {where}", f"draw {what} {where}")
    meaning = Meaning("add", *pair, place=place)
    return InstructionTask("add", scene, scene.with_thing(new), Text(words, meaning), None, new)


def _move(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask | None:
    index = 0 if split == "heldout" else int(rng.integers(len(scene.things)))
    old, others = scene.things[index], _others(scene, index)
    place = str(rng.choice([name for name in PLACES if name != named_place(old)]))
    new = replace(old, x=PLACES[place][0], y=PLACES[place][1])
    if not fits(new, others):
        return None
    the, said_colour, said_shape = reference_to(rng, old, others)
    where = f"to the {place}" if rng.random() < 0.7 else _at(rng, place)
    words = pick(rng, f"move {the} {where}", f"shift {the} {where}", f"put {the} {where}")
    meaning = Meaning("move", place=place, old_colour=said_colour, old_shape=said_shape)
    after = scene.with_changed(index, x=new.x, y=new.y)
    return InstructionTask("move", scene, after, Text(words, meaning), old, after.things[index])


def _replace(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask | None:
    index = int(rng.integers(len(scene.things)))
    old, others = scene.things[index], _others(scene, index)
    pairs = [
        (colour, shape)
        for colour in COLOURS
        for shape in SHAPES
        if _may_show((colour, shape), split)
        and shape != old.shape
        and colour != old.colour
        and all(colour != t.colour and shape != t.shape for t in others)
    ]
    if not pairs:
        return None
    pair = pairs[int(rng.integers(len(pairs)))]
    the, said_colour, said_shape = reference_to(rng, old, others)
    what = with_article(thing_words(*pair))
    words = pick(
        rng,
        f"replace {the} with {what}",
        f"replace {the} by {what}",
        f"swap {the} for {what}",
        f"turn {the} into {what}",
    )
    meaning = Meaning("replace", *pair, old_colour=said_colour, old_shape=said_shape)
    after = scene.with_changed(index, colour=pair[0], shape=pair[1])
    return InstructionTask("replace", scene, after, Text(words, meaning), old, after.things[index])


def _resize(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask | None:
    index = 0 if split == "heldout" else int(rng.integers(len(scene.things)))
    old, others = scene.things[index], _others(scene, index)
    size = "large" if old.size == "small" else "small"
    new = replace(old, radius=old.radius * GROWTH if size == "large" else old.radius / GROWTH)
    if not fits(new, others):
        return None
    the, said_colour, said_shape = reference_to(rng, old, others)
    if size == "large":
        words = pick(rng, f"make {the} bigger", f"make {the} larger", f"enlarge {the}")
    else:
        words = pick(rng, f"make {the} smaller", f"shrink {the}")
    meaning = Meaning("resize", size=size, old_colour=said_colour, old_shape=said_shape)
    after = scene.with_changed(index, radius=new.radius)
    return InstructionTask("resize", scene, after, Text(words, meaning), old, new)


def _background(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    colour = str(rng.choice([c for c in BACKGROUND_COLOURS if c != scene.background.colour]))
    kind = str(rng.choice(["plain", "plain", "gradient", "striped", "checked"]))
    ground = Background(colour, kind, scene.background.phase)
    named = background_words(rng, ground)
    words = pick(
        rng,
        f"change the background to {with_article(named.removesuffix(' background'))}"
        if kind not in ("plain",)
        else f"change the background to {colour}",
        f"make the background {named.removesuffix(' background')}",
        f"put it on {with_article(named)}",
        f"give it {with_article(named)}",
    )
    said = kind if kind in words else ""
    if kind != "plain" and not said:
        words, said = f"make the background {kind} {colour}", kind
    meaning = Meaning("background", background=colour, background_kind=said)
    return InstructionTask(
        "background", scene, replace(scene, background=ground), Text(words, meaning)
    )


def _brighten(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    words = pick(rng, "brighten the picture", "make it brighter", "make the picture brighter")
    after = replace(scene, exposure=BRIGHTER)
    return InstructionTask("brighten", scene, after, Text(words, Meaning("brighten")))


def _darken(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    words = pick(rng, "darken the picture", "make it darker", "make the picture darker")
    after = replace(scene, exposure=DARKER)
    return InstructionTask("darken", scene, after, Text(words, Meaning("darken")))


def _blur(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    words = pick(rng, "blur the picture", "blur it", "make the picture blurry")
    after = replace(scene, blur=BLUR)
    return InstructionTask("blur", scene, after, Text(words, Meaning("blur")))


def _keep(rng: np.random.Generator, scene: Scene, split: Split) -> InstructionTask:
    words = pick(
        rng,
        "leave it as it is",
        "keep it as it is",
        "change nothing",
        "do not change anything",
        "keep the picture",
    )
    return InstructionTask("keep", scene, scene, Text(words, Meaning("keep")))


_DRAWS: dict[str, _Draw] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "move": _move,
    "replace": _replace,
    "resize": _resize,
    "background": _background,
    "brighten": _brighten,
    "darken": _darken,
    "blur": _blur,
    "keep": _keep,
}


def _others(scene: Scene, index: int) -> tuple[Thing, ...]:
    return scene.without(index).things


def _at(rng: np.random.Generator, place: str) -> str:
    if place == "middle":
        return "in the middle"
    if " " in place:
        return pick(rng, f"in the {place}", f"in the {place} corner")
    return pick(rng, f"at the {place}", f"on the {place}")

"""Words for things, scenes, prompts and instructions, each with its meaning as data.

The meaning (who, what, where) is what the text encoders are taught first, so that the denoisers
find colours and shapes ready to use in their conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from training.world.palette import BACKGROUND_COLOURS, BACKGROUND_KINDS, COLOURS, PLACES, SHAPES
from training.world.palette import SIZES as SIZE_NAMES
from training.world.scene import Background, Scene, Thing

INTENTS: tuple[str, ...] = (
    "none",
    "draw",
    "empty",
    "scene",
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


@dataclass(frozen=True)
class Meaning:
    """What a text says; '' where it says nothing of it.

    `colour` and `shape` name what shall be seen; `old_colour` and `old_shape` what an instruction
    changes; `other_*` are the second thing of a caption.
    """

    intent: str
    colour: str = ""
    shape: str = ""
    size: str = ""
    place: str = ""
    old_colour: str = ""
    old_shape: str = ""
    other_colour: str = ""
    other_shape: str = ""
    background: str = ""
    background_kind: str = ""


@dataclass(frozen=True)
class Text:
    """A wording and its meaning."""

    words: str
    meaning: Meaning


FACETS: dict[str, tuple[str, ...]] = {
    "intent": INTENTS,
    "colour": ("", *COLOURS),
    "shape": ("", *SHAPES),
    "size": ("", *SIZE_NAMES),
    "place": ("", *PLACES),
    "old_colour": ("", *COLOURS),
    "old_shape": ("", *SHAPES),
    "other_colour": ("", *COLOURS),
    "other_shape": ("", *SHAPES),
    "background": ("", *BACKGROUND_COLOURS),
    "background_kind": ("", *BACKGROUND_KINDS),
}
"""The values that each field of a meaning may take."""


def meaning_indices(meaning: Meaning) -> list[int]:
    """The meaning as one class index for each facet, in the order of FACETS."""
    values = asdict(meaning)
    return [options.index(values[facet]) for facet, options in FACETS.items()]


def pick(rng: np.random.Generator, *options: str) -> str:
    """One of the wordings."""
    return options[int(rng.integers(len(options)))]


def with_article(words: str) -> str:
    """'a' or 'an' before the words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def thing_words(colour: str, shape: str, size: str = "") -> str:
    """'small red circle', leaving out what is not said."""
    return " ".join(word for word in (size, colour, shape or "shape") if word)


def background_words(rng: np.random.Generator, background: Background) -> str:
    """'sand background', 'striped sand background', …"""
    kind = "" if background.kind == "plain" and rng.random() < 0.7 else background.kind
    return " ".join(word for word in (kind, background.colour, "background") if word)


def draw_prompt(rng: np.random.Generator, thing: Thing, background: Background | None) -> Text:
    """A prompt for a mask that shall show the thing; sometimes colour or shape is left open."""
    chance = rng.random()
    colour = "" if chance < 0.1 else thing.colour
    shape = "" if 0.1 <= chance < 0.2 else thing.shape
    size = thing.size if rng.random() < 0.25 else ""
    noun = shape or pick(rng, "shape", "object", "thing")
    words = with_article(" ".join(word for word in (size, colour, noun) if word))
    words = pick(rng, words, words, words, f"{words} with a soft shadow", words.split(" ", 1)[1])
    meaning = Meaning("draw", colour, shape, size)
    if background is not None and rng.random() < 0.25:
        words = f"{words} on {with_article(background_words(rng, background))}"
        meaning = Meaning(
            "draw",
            colour,
            shape,
            size,
            background=background.colour,
            background_kind=background.kind if background.kind in words else "",
        )
    return Text(words, meaning)


def empty_prompt(rng: np.random.Generator, background: Background) -> Text:
    """A prompt for a mask that shall show nothing but the ground."""
    plain = pick(
        rng,
        "empty background",
        "an empty background",
        "just the background",
        "only the background",
        "nothing",
        "nothing here",
        "background",
        "empty",
    )
    if rng.random() < 0.8:
        return Text(plain, Meaning("empty"))
    words = background_words(rng, background)
    kind = background.kind if background.kind in words else ""
    meaning = Meaning("empty", background=background.colour, background_kind=kind)
    return Text(pick(rng, f"an empty {words}", f"empty {words}"), meaning)


def scene_caption(rng: np.random.Generator, scene: Scene) -> Text:
    """A caption of a whole scene."""
    if not scene.things:
        return empty_prompt(rng, scene.background)
    names = [with_article(thing_words(t.colour, t.shape)) for t in scene.things]
    words = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    first, second = scene.things[0], scene.things[1] if len(scene.things) > 1 else None
    background, kind = "", ""
    if rng.random() < 0.7:
        ground = background_words(rng, scene.background)
        words = f"{words} on {with_article(ground)}"
        background = scene.background.colour
        kind = scene.background.kind if scene.background.kind in ground else ""
    if rng.random() < 0.2:
        words = pick(rng, f"a picture of {words}", f"a drawing of {words}")
    return Text(
        words,
        Meaning(
            "scene",
            first.colour,
            first.shape,
            other_colour=second.colour if second else "",
            other_shape=second.shape if second else "",
            background=background,
            background_kind=kind,
        ),
    )


def reference_to(
    rng: np.random.Generator, thing: Thing, others: Sequence[Thing]
) -> tuple[str, str, str]:
    """Words that name one thing of a scene without doubt: (words, colour said, shape said)."""
    chance = rng.random()
    if chance < 0.15 and all(other.colour != thing.colour for other in others):
        return (
            f"the {thing.colour} {pick(rng, 'one', 'object', 'thing', 'shape')}",
            thing.colour,
            "",
        )
    if chance < 0.25 and all(other.shape != thing.shape for other in others):
        return f"the {thing.shape}", "", thing.shape
    return f"the {thing.colour} {thing.shape}", thing.colour, thing.shape

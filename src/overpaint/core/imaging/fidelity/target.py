"""What an instruction names, and where that is in a picture, for a segmenter to find."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.core.imaging.images import Picture

MOST_WORDS = 5
"""Of a name; the rest of a sentence says what becomes of the thing."""

_DETERMINER = (
    r"(?:the|a|an|his|her|its|their|my|our|your|this|that|these|those|all|both|every|each)"
)
_END = (
    r"(?:to|into|with|from|in|on|onto|at|by|for|so|and|as|look|looks|be|is|are|more|less|like|"
    r"under|over|behind|beside|near|next|instead|while|without|but|please)"
)
_NAME = rf"{_DETERMINER}\s+(?:(?!{_END}\b)[\w'-]+\s*){{1,{MOST_WORDS}}}"
_PLACE = re.compile(
    rf"\b(?:to|onto|on|in|into|under|over|behind|beside|near|next to|around)\s+({_NAME})", re.I
)
_THING = re.compile(rf"\b({_NAME})", re.I)
_ADDS = re.compile(r"^\W*(?:please\s+)?(?:add|put|place|insert|draw|write|give)\b", re.I)
_MOVES = re.compile(
    r"^\W*(?:please\s+)?(?:move|shift|swap|bring|slide|drag|push|pull|exchange|switch)\b", re.I
)
_VERB = re.compile(r"^\W*(?:please\s+)?\w+\s+")


class Locator(Protocol):
    """Finds things in pictures by words."""

    @property
    def name(self) -> str:
        """As recipes call it."""

    @property
    def waits(self) -> bool:
        """Whether it waits for another machine; it is asked where no other edit waits with it."""

    def place(self, picture: Picture, words: str) -> Image.Image | None:
        """'L' of the picture's size, 255 = what the words name; None where it finds nothing."""


@dataclass(frozen=True, eq=False)
class TargetLocation:
    """What came of looking for the thing that an instruction names.

    Attributes:
        place: 'L' of the picture's size, 255 = the thing; None = it was not found.
        account: who found it, by which words; None = nobody did.
    """

    place: Image.Image | None = None
    account: Mapping[str, str] | None = None


def located(locator: Locator, picture: Picture, instruction: str) -> TargetLocation:
    """Look for the thing that an instruction names."""
    words = subject(instruction)
    place = None if words is None else locator.place(picture, words)
    if words is None or place is None:
        return TargetLocation()
    return TargetLocation(place, {"by": locator.name, "words": words})


def subject(instruction: str) -> str | None:
    """The thing in a picture that an instruction is about, as a phrase.

    'Make the old car red.' is about 'the old car red', which detectors read as the car; 'put a hat
    on the man' is about 'the man', as the hat is not there yet. An instruction without an article
    is about all of its words after the first.

    Returns:
        None where no one thing says where the edit goes: where something is moved, or added
        without a place.
    """
    first = re.split(r"[.;!?\n]", instruction.strip(), maxsplit=1)[0].strip()
    if not first or _MOVES.match(first):
        return None
    match = _PLACE.search(first) if _ADDS.match(first) else _THING.search(first)
    if match:
        return match[1].strip()
    return None if _ADDS.match(first) else _VERB.sub("", first).strip()

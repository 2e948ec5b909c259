"""What an instruction names: the words with which a segmenter can look for it."""

from __future__ import annotations

import re

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

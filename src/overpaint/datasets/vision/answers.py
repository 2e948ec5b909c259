"""What a vision model's answer says, whatever form it has.

Models put JSON into fences, words around it, their thoughts before it; they call a box `bbox_2d`,
leave out the list's name or the confidence. All of that is read; what cannot be is `Unreadable`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

MOST_OBJECTS = 100
LONGEST_LABEL = 100
MOST_TRIES = 200
"""Places in a text at which JSON is looked for."""

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"^.*?</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LIST_KEYS = (
    "objects",
    "detections",
    "things",
    "items",
    "results",
    "predictions",
    "found",
    "answer",
)
_LABEL_KEYS = ("label", "name", "class", "object", "category", "class_name")
_BOX_KEYS = (
    "box",
    "bbox_2d",
    "box_2d",
    "bbox",
    "bounding_box",
    "boundingBox",
    "coordinates",
    "rect",
)
_SURE_KEYS = ("confidence", "score", "probability", "certainty")
_TRUE_KEYS = ("true", "answer", "result", "value", "shows", "match", "is_true")
_SIDES = (
    ("left", "top", "right", "bottom"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
)
_WORDS_FOR_SURE = {"certain": 0.95, "high": 0.9, "medium": 0.6, "low": 0.3}
_YES, _NO = ("true", "yes", "correct"), ("false", "no", "incorrect")


class Unreadable(ValueError):
    """The text has no answer of that kind; the message says what is wrong."""


@dataclass(frozen=True)
class Thing:
    """A thing that a model says is in a picture.

    Attributes:
        label: in the model's words.
        box: four numbers, in the way of the model; None = it gave none.
        confidence: 0..1; None = it gave none.
    """

    label: str
    box: tuple[float, float, float, float] | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Truth:
    """Whether a statement is true, and how surely or well, 0..1."""

    true: bool
    score: float


def things(text: str) -> list[Thing]:
    """The things that an answer lists; none is an answer, too.

    Raises:
        Unreadable: it lists nothing that can be read.
    """
    return _first(text, _things)[:MOST_OBJECTS]


def truth(text: str) -> Truth:
    """Yes or no, with a score; one without has 1 or 0.

    Raises:
        Unreadable: it is neither.
    """
    try:
        return _first(text, _truth)
    except Unreadable:
        words = plain(text).casefold().strip(" \n*.\"'`")
        word = re.split(r"[\s,.!:;]", words, maxsplit=1)[0]
        if word in (*_YES, *_NO):
            return Truth(word in _YES, float(word in _YES))
        raise


def _first(text: str, read: Callable[[Any], T]) -> T:
    """The first value in the text that can be read."""
    failure: Unreadable | None = None
    for value in _values(plain(text)):
        try:
            return read(value)
        except Unreadable as error:
            failure = failure or error
    raise failure or Unreadable("it has no JSON")


def plain(text: str) -> str:
    """The answer without the thoughts before it."""
    return _THOUGHT_END.sub("", _THOUGHT.sub("", text)).strip()


def _values(text: str) -> Iterator[Any]:
    """JSON values in a text: the whole, in fences, then wherever one starts."""
    yield from _parsed(text)
    for match in _FENCE.finditer(text):
        yield from _parsed(match[1].strip())
    decoder = json.JSONDecoder()
    place, tries = 0, 0
    while tries < MOST_TRIES and (start := _next_start(text, place)) >= 0:
        tries += 1
        try:
            value, place = decoder.raw_decode(text, start)
            yield value
        except (ValueError, RecursionError):
            place = start + 1


def _next_start(text: str, place: int) -> int:
    starts = [each for mark in "{[" if (each := text.find(mark, place)) >= 0]
    return min(starts, default=-1)


def _parsed(text: str) -> Iterator[Any]:
    """A text that is JSON, or a literal of Python, which some models write."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict | list | bool):
            yield value
            return


def _things(value: Any) -> list[Thing]:
    if isinstance(value, Mapping):
        items = next((value[key] for key in _LIST_KEYS if isinstance(value.get(key), list)), None)
        if items is not None:
            return _things(items)
        if _get(value, _LABEL_KEYS) is not None:
            return [_thing(value)]
        return _by_label(value)
    if not isinstance(value, list):
        raise Unreadable("it lists no things")
    if all(isinstance(each, str) for each in value):
        return [Thing(each[:LONGEST_LABEL]) for each in value]
    return [_thing(each) for each in value]


def _by_label(value: Mapping[str, Any]) -> list[Thing]:
    """Labels with their boxes: {"a cat": [[…], …]}."""
    labelled_things = []
    for label, boxes in value.items():
        many = boxes if isinstance(boxes, list) and boxes and _is_box(boxes[0]) else [boxes]
        if not all(_is_box(each) for each in many):
            raise Unreadable("it lists no things")
        labelled_things += [Thing(str(label)[:LONGEST_LABEL], _box(each)) for each in many]
    return labelled_things


def _thing(value: Any) -> Thing:
    label = _get(value, _LABEL_KEYS) if isinstance(value, Mapping) else None
    if not isinstance(label, str) or not label.strip():
        raise Unreadable("a thing has no label")
    box = _get(value, _BOX_KEYS)
    if box is None and any(side in value for sides in _SIDES for side in sides[:1]):
        box = value
    return Thing(
        label.strip()[:LONGEST_LABEL],
        None if box is None else _box(box),
        _share(_get(value, _SURE_KEYS)),
    )


def _truth(value: Any) -> Truth:
    if isinstance(value, bool):
        return Truth(value, float(value))
    if not isinstance(value, Mapping):
        raise Unreadable("it does not say whether that is true")
    answer = _get(value, _TRUE_KEYS)
    if isinstance(answer, str):
        word = answer.casefold().strip(" .!")
        answer = True if word in _YES else False if word in _NO else None
    if not isinstance(answer, bool):
        raise Unreadable("it does not say whether that is true")
    score = _share(_get(value, _SURE_KEYS))
    return Truth(answer, float(answer) if score is None else score)


def _is_box(value: Any) -> bool:
    try:
        _box(value)
    except Unreadable:
        return False
    return True


def _box(value: Any) -> tuple[float, float, float, float]:
    """Four numbers of a list, two points, sides by name, or a text."""
    if isinstance(value, str):
        value = _NUMBER.findall(value)
    if isinstance(value, Mapping):
        value = _sides(value)
    if isinstance(value, list) and value and all(isinstance(each, list) for each in value):
        value = [number for point in value for number in point]
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise Unreadable(
            f"a box has {len(value) if isinstance(value, list) else 'no'} numbers, not 4"
        )
    try:
        first, second, third, fourth = (float(each) for each in value)
    except (TypeError, ValueError) as error:
        raise Unreadable("a box has no numbers") from error
    return first, second, third, fourth


def _sides(value: Mapping[str, Any]) -> list[Any]:
    for sides in _SIDES:
        if all(side in value for side in sides):
            return [value[side] for side in sides]
    width, height = _get(value, ("width", "w")), _get(value, ("height", "h"))
    left, top = _get(value, ("x", "left")), _get(value, ("y", "top"))
    try:
        return [left, top, left + width, top + height]
    except TypeError as error:
        raise Unreadable("a box has no sides with known names") from error


def _share(value: Any) -> float | None:
    """A confidence as 0..1, from a number, parts of ten or hundred, or a word."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        word = value.casefold().strip()
        if word in _WORDS_FOR_SURE:
            return _WORDS_FOR_SURE[word]
        match = _NUMBER.search(word)
        value = None if match is None else float(match[0]) / (100 if "%" in word else 1)
    if not isinstance(value, int | float) or value != value:
        return None
    scale = 1 if value <= 1 else 10 if value <= 10 else 100
    return min(max(value / scale, 0.0), 1.0)


def _get(value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)

"""Labels as people and models write them: compared without case, article and plural."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_ARTICLES = ("a ", "an ", "the ", "some ", "any ")
_IRREGULAR = {
    "people": "person",
    "persons": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "leaves": "leaf",
    "shelves": "shelf",
}
_UNCHANGED = ("ss", "us", "is", "series", "species", "glasses", "trousers", "scissors", "jeans")
_SPACES = re.compile(r"[\s_\-]+")


def normal(label: str) -> str:
    """A label's plain form: 'The Traffic_Cones.' and 'a traffic cone' are both 'traffic cone'."""
    words = _SPACES.sub(" ", label.casefold()).strip(" .,;:!\"'`")
    for article in _ARTICLES:
        words = words.removeprefix(article)
    *before, last = words.split(" ")
    return " ".join([*before, _singular(last)])


def match(label: str, labels: Iterable[str]) -> str | None:
    """The first of the labels that means the same; None = none of them does."""
    own = normal(label)
    return next((each for each in labels if normal(each) == own), None)


def fits(when: str, label: str, *, is_open: bool) -> bool:
    """Whether a rule's `when` is for a label.

    Args:
        when: a label, or a pattern with `*` and `?`.
        label: of what was found.
        is_open: the label is in the model's own words; then it fits as well if it ends with those
            of the rule: 'cone' is for 'an orange traffic cone'.
    """
    if "*" in when or "?" in when:
        pattern = when.casefold()
        return fnmatchcase(label.casefold(), pattern) or fnmatchcase(normal(label), pattern)
    rule_label, own = normal(when), normal(label)
    return own == rule_label or (is_open and own.endswith(f" {rule_label}"))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or word.endswith(_UNCHANGED) or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1]

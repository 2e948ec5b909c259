"""Words and regular expressions that prompts may not contain, from a file of one's own.

    [[lists]]
    language = "en"
    category = "violence"            # default: blocklist
    severity = 6                     # default
    words = ["blood bath"]
    patterns = ["behead(s|ed|ing)?"]

Text and words are compared without regard to case, compatibility forms (full-width letters) and
invisible characters. A word counts as a whole word; its parts may be joined by spaces, hyphens or
underscores. In languages that are written without spaces it counts anywhere.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from overpaint.core import plain_values
from overpaint.core.errors import InvalidSettings
from overpaint.core.safety import MAX_SEVERITY, Category

FIELD = "safety.blocklist"

WITHOUT_SPACES = frozenset({"ja", "km", "lo", "my", "th", "zh"})

_BETWEEN_PARTS = r"[\s_-]+"


@dataclass(frozen=True)
class Pattern:
    """A regular expression and what it means."""

    expression: re.Pattern[str]
    category: Category
    severity: int


class Blocklist:
    """A checker of texts.

    Args:
        entries: what to look for.
    """

    name = "blocklist"

    def __init__(self, entries: Iterable[Pattern]) -> None:
        self._entries = tuple(entries)

    def check(self, content: str) -> Mapping[Category, int]:
        """Severities of what was found; 'blocklist': 0 where that is nothing."""
        text = normalized(content)
        severities: dict[Category, int] = {"blocklist": 0}
        for entry in self._entries:
            if entry.expression.search(text):
                worst = max(entry.severity, severities.get(entry.category, 0))
                severities[entry.category] = worst
        return severities


def load(file: Path, languages: Collection[str] = ()) -> Blocklist:
    """Read a blocklist.

    Args:
        file: TOML, as in the module's description.
        languages: take the lists of these only, and those without a language; empty = all.

    Raises:
        InvalidSettings: the file cannot be read, or an entry is wrong.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        lists = _File.model_validate(content).lists
        entries = [
            entry
            for each in lists
            if not languages or each.language is None or each.language in languages
            for entry in each.entries()
        ]
    except ValidationError as error:
        first = plain_values.first_error(error)
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidSettings(
            f"{file}: {where}: {plain_values.complaint(first)}", field=FIELD
        ) from error
    except OSError as error:
        raise InvalidSettings(f"{file} cannot be read: {error.strerror}", field=FIELD) from error
    except ValueError as error:
        raise InvalidSettings(f"{file} cannot be read: {error}", field=FIELD) from error
    if not entries:
        raise InvalidSettings(f"{file} has no words or patterns in use", field=FIELD)
    return Blocklist(entries)


def normalized(text: str) -> str:
    """Text as it is compared."""
    visible = (each for each in text if unicodedata.category(each) != "Cf")
    return unicodedata.normalize("NFKC", "".join(visible)).casefold()


class _List(BaseModel):
    model_config = ConfigDict(extra="forbid")

    language: str | None = None
    category: Category = "blocklist"
    severity: int = Field(default=6, ge=0, le=MAX_SEVERITY)
    words: tuple[str, ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()

    @field_validator("words")
    @classmethod
    def _not_empty(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if not all(normalized(word).strip() for word in words):
            raise ValueError("a word is empty")
        return words

    @field_validator("patterns", mode="before")
    @classmethod
    def _compiled(cls, patterns: Any) -> Any:
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise ValueError("give a list of texts")
        # The text is casefolded, so the pattern has to ignore case.
        try:
            return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error

    def entries(self) -> Iterable[Pattern]:
        words = (_whole_word(word, self.language) for word in self.words)
        for pattern in (*words, *self.patterns):
            yield Pattern(pattern, self.category, self.severity)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    lists: tuple[_List, ...]


def _whole_word(word: str, language: str | None) -> re.Pattern[str]:
    parts = [re.escape(part) for part in re.split(_BETWEEN_PARTS, normalized(word)) if part]
    joined = _BETWEEN_PARTS.join(parts)
    if language in WITHOUT_SPACES:
        return re.compile(joined)
    return re.compile(rf"(?<!\w){joined}(?!\w)")

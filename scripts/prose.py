"""Lint the words that people read: README, docs, help, messages and the page.

python -m scripts.prose             print what was found; exit 1 if anything was

proselint does the linting. Its own checks of clichés, repeated words and redundancy apply, and the
project's list beside them: words that English does not use so, and sentences turned round.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

from proselint.checks import __register__ as published
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, types
from proselint.tools import LintFile

from scripts.strings import Sentence, sentences

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "examples/**/*.md")

WORDS = {
    "shall": "say 'will', 'must' or 'may'",
    "told": "say 'said', 'reported' or 'shown'",
    "whoever": "say who",
    "thereof": "say of what",
    "hereby": "leave it out",
    "upon": "say 'on'",
    "lest": "say 'so that … not'",
    "beforehand": "say 'first' or 'before'",
    "evidently": "say why, or leave it out",
    "aforementioned": "say which",
    "likewise": "say 'also'",
    "of its own accord": "say 'by itself'",
    "is heard": "say what takes effect",
    "there are come": "turn the sentence round",
    "is no plain": "say 'is not a plain'",
    "is no text": "say 'is not text'",
    "is no picture": "say 'is not a picture'",
    "says nothing about": "say what is missing",
    "so many": "say 'at most N' or 'N'",
    "nothing is": "turn the sentence round: who does not do what",
    "nobody waits": "say who left",
    "hangs up": "say 'disconnects'",
    "hung up": "say 'disconnected'",
    "taken back": "say 'undone'",
    "anew": "say 'again'",
    "not at hand": "say who does not have it",
    "in the mean": "say 'on average'",
    "come along": "say 'are bundled'",
    "comes along": "say 'is bundled'",
    "go on from": "say 'continue from'",
    "in sight": "say 'visible'",
    "holds up": "say 'delays'",
    "hold up": "say 'delay'",
    "as it stands": "say 'unchanged'",
    "another one than": "say 'not the one that', or 'different from'",
    "where asked for": "say 'if you ask for it'",
    "where none is": "say 'if there is none' or 'unless one is named'",
    "of no use": "say what happens to it",
    "kept no longer": "say 'no longer kept'",
}
"""What is not said, and what to do instead."""

INVERTED = {
    r"(?:^|[.!?:;] )Of [a-z]": "a sentence that begins with 'Of'",
    r"(?:^|[.!?:;] )(?:So|Such|Nor|Neither) [a-z]+ (?:is|are|was|were|does|do|has|have)\b": (
        "an inverted sentence"
    ),
    r"(?:^|[.!?:;] )What [^,.?]+ (?:counts|binds|goes|comes)\b[^?]*?\.": (
        "a sentence whose subject is a clause"
    ),
}
"""Sentences turned round: regular expressions, and what they are."""

UNIDIOMATIC = {
    r"(?:[^e ]|[^r ]e|[^e ]re) (?:is|are) no [a-kn-rt-z][a-z]+": (
        "say 'is not a …' where something is not of a kind"
    ),
    r"\bbesides[.,;]": "say 'also', and say it earlier",
    r"\blets? (?:a|the) picture grow\b": "say 'makes the picture larger'",
    r"(?m:^asked$)": "say 'goal'",
    r"(?m:^ours$)": "say 'Overpaint'",
}
"""What is not said so: regular expressions, and what to do instead."""

SKIPPED = ("typography", "weasel_words")
"""Checks of proselint that concern print, not sense."""

CODE = "…"
"""In the place of code in a sentence."""

NUMBER = "#"
"""In the place of figures, which are repeated in tables."""

APART = "¶"
"""Between two texts, so that the end of one and the start of the next are no repeated word."""

FIRST_LINE = 2
"""The line of the first text: proselint puts an empty one before it."""


def findings() -> Iterator[str]:
    """Each line: where, what is wrong, and the words."""
    by_path = groupby(_texts(), key=lambda text: text.path)
    for path, group in by_path:
        texts = [text for text in group if text.text]
        page = LintFile(path, content=f"\n{APART}\n".join(text.text for text in texts))
        for result in page.lint(_config()):
            start, end = result.check_result.span
            quoted = page.content[max(start - 30, 0) : end + 30].strip()
            line = texts[(result.pos[0] - FIRST_LINE) // 2].line
            yield f"{path}:{line}: {result.check_result.message} ({quoted!r})"


def _texts() -> Iterator[Sentence]:
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            path = page.relative_to(ROOT).as_posix()
            for line, text in paragraphs(page.read_text(encoding="utf-8")):
                yield Sentence(path, line, text)
    yield from sentences()


def paragraphs(markdown: str) -> Iterator[tuple[int, str]]:
    """The prose of a page, a paragraph or a cell of a table at a time, without code.

    Returns:
        Pairs of the line, counted from 1, and the text on one line.
    """
    markdown = re.sub(r"\d[\d.,]*", NUMBER, markdown)
    plain = re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), markdown, flags=re.DOTALL)
    line = 1
    for block in re.split(r"(\n\s*\n|\n(?=[|>#*-]|\d+\.))", plain):
        text = " ".join(re.sub(r"`[^`]*`", CODE, block).split())
        for cell in text.split(" | ") if text.startswith("|") else [text]:
            if cell.strip("|- "):
                yield line, cell.strip("| ")
        line += block.count("\n")


@cache
def _config() -> Config:
    """Proselint's own choice of its checks, without print, and the project's."""
    registry = CheckRegistry()
    own = tuple(_own_checks())
    registry.register_many(published + own)
    chosen = {name: on and not name.startswith(SKIPPED) for name, on in DEFAULT["checks"].items()}
    return Config(max_errors=sys.maxsize, checks=chosen | {check.path: True for check in own})


def _own_checks() -> Iterator[Check]:
    for word, advice in WORDS.items():
        yield Check(
            types.Existence(items=(_as_written(word),)), path="own.words", message=f"{advice}."
        )
    for pattern, kind in INVERTED.items():
        yield Check(
            types.ExistenceSimple(pattern=pattern),
            path="own.order",
            message=f"Turn it round: {kind}.",
        )
    for pattern, advice in UNIDIOMATIC.items():
        yield Check(types.ExistenceSimple(pattern=pattern), path="own.idiom", message=f"{advice}.")


def _as_written(word: str) -> str:
    """A pattern of the word in small letters, or with a capital at the start of a sentence."""
    return f"(?-i:[{word[0].upper()}{word[0]}]{word[1:]})"


if __name__ == "__main__":
    lines = list(findings())
    print("\n".join([*lines, f"{len(lines)} findings"]))
    sys.exit(bool(lines))

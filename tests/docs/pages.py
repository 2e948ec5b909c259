"""What the documents show: blocks of code, and code within sentences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

PAGES = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/**/*.md")

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<needs>[^\"]*)\")?\n"
    r"(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")


class Block(NamedTuple):
    """A block of code in a document.

    Attributes:
        page: the document, from the root of the repository.
        line: of its first line of code, counted from 1.
        language: as the fence names it; '' where it names none.
        needs: the block's title: what it needs that a test does not have; '' = it runs as it is.
        text: without the fence.
    """

    page: str
    line: int
    language: str
    needs: str
    text: str


class Span(NamedTuple):
    """Code within a sentence or a table.

    Attributes:
        page: the document, from the root of the repository.
        line: counted from 1.
        text: on one line, without the backticks.
    """

    page: str
    line: int
    text: str


@cache
def pages() -> dict[str, str]:
    """The text of every document, by its path from the root of the repository."""
    files = sorted(file for pattern in PAGES for file in ROOT.glob(pattern))
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def blocks(*languages: str, page: str | None = None) -> list[Block]:
    """Fenced blocks in these languages, of all documents or of one."""
    return [
        Block(path, text.count("\n", 0, match.start()) + 2, *_parts(match))
        for path, text in pages().items()
        if page in (None, path)
        for match in _FENCE.finditer(text)
        if match["language"] in languages
    ]


def _parts(match: re.Match[str]) -> tuple[str, str, str]:
    margin = len(match["indent"])
    lines = [line[margin:] for line in match["text"].splitlines()]
    return match["language"], match["needs"] or "", "\n".join(lines) + "\n"


def spans() -> list[Span]:
    """Code between backticks in all documents, outside of blocks."""
    return [
        Span(path, prose.count("\n", 0, match.start()) + 1, " ".join(match[1].split()))
        for path, text in pages().items()
        for prose in [_FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)]
        for match in re.finditer(r"`([^`]+)`", prose)
    ]


def command_lines() -> Iterator[Span]:
    """The commands of all shell blocks and indented blocks, each on one line."""
    shell = [(each.page, each.line, each.text) for each in blocks("sh")]
    for path, text in pages().items():
        plain = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
        shell += [
            (path, plain.count("\n", 0, match.start()) + 1, match[0])
            for match in _INDENTED.finditer(plain)
        ]
    for path, line, text in shell:
        joined = re.sub(r"\\\n", " ", text)
        for each in joined.splitlines():
            yield Span(path, line, each.strip())


def words(command: str) -> list[str]:
    """The words of a command, without comments, redirections and what an ellipsis leaves out."""
    said = shlex.split(command.replace("\\|", "|"), comments=True)
    return [word for word in said if word not in ("…", "...", "&", "&&")]

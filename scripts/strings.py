"""Every string that a person can see: help, errors, warnings, the page, reports, OpenAPI.

python -m scripts.strings            print them, each with its file and line
python -m scripts.strings errors     those whose file or text holds the word

From Python files, every string with at least two words counts, except docstrings of what is not a
command or a route; parts of f-strings that are computed stand as {…}. From the page, texts of
elements, labels and strings of scripts.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "overpaint"
COMPUTED = "{…}"
SEEN_DOCSTRINGS = ("apps/cli", "apps/server/protocols", "apps/server/routes.py")
"""Where docstrings of decorated functions become help or descriptions of routes."""
_REGISTERED = re.compile(r"\.command\([^)]*\)\(\w+\.(\w+)\)")
"""Commands that are registered by name: `app.command("models")(models.models)`."""
READ_ATTRIBUTES = ("title", "aria-label", "placeholder", "alt", "data-help")
_SCRIPT_STRINGS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`""",
    re.DOTALL,
)
_WORDS = re.compile(r"[A-Za-z]{2,}[^A-Za-z{}]* [^A-Za-z]*[A-Za-z]{2,}|^[A-Z][a-z]+[.!?]?$")


class Sentence(NamedTuple):
    """A string, where it stands.

    Attributes:
        path: of the file, from the root of the repository.
        line: counted from 1.
        text: as it is shown; computed parts are '{…}'.
    """

    path: str
    line: int
    text: str


def sentences() -> list[Sentence]:
    """All strings that a person can see, in the order of files and lines."""
    readers = {".py": _from_python, ".html": _from_html, ".jinja": _from_html, ".js": _from_script}
    return [
        Sentence(file.relative_to(ROOT).as_posix(), line, text)
        for file in sorted(SOURCE.rglob("*"))
        if file.suffix in readers
        for line, text in readers[file.suffix](file)
        if _WORDS.search(text)
    ]


def _from_python(file: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    unseen = {id(node) for node in _docstrings(tree, file)}
    unseen |= {id(part) for node in ast.walk(tree) if _is_joined(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, _rendered(node)
        elif id(node) not in unseen and isinstance(value := getattr(node, "value", None), str):
            yield node.lineno, " ".join(value.split())


def _is_joined(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr)


def _rendered(node: ast.JoinedStr) -> str:
    pieces = (part.value if isinstance(part, ast.Constant) else COMPUTED for part in node.values)
    return " ".join("".join(map(str, pieces)).split())


def _docstrings(tree: ast.Module, file: Path) -> Iterator[ast.AST]:
    """Strings that stand alone: docstrings and descriptions of names."""
    seen = any(place in file.as_posix() for place in SEEN_DOCSTRINGS)
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and not (seen and _is_described(node)):
                yield child.value


def _is_described(node: ast.AST) -> bool:
    """Whether it is a command or a route, whose docstring is shown."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return bool(node.decorator_list) or node.name in _registered()


@cache
def _registered() -> frozenset[str]:
    commands = (SOURCE / "apps/cli/commands.py").read_text(encoding="utf-8")
    return frozenset(_REGISTERED.findall(commands))


class _Texts(HTMLParser):
    """Texts and readable attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[tuple[int, str]] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("style", "script")
        for name, value in attrs:
            if name in READ_ATTRIBUTES and value:
                self.texts.append((self.getpos()[0], value))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._hidden:
            self.texts.append((self.getpos()[0], " ".join(data.split())))


def _from_html(file: Path) -> Iterator[tuple[int, str]]:
    parser = _Texts()
    text = re.sub(r"{%.*?%}|{#.*?#}", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    parser.feed(re.sub(r"{{.*?}}", COMPUTED, text, flags=re.DOTALL))
    yield from parser.texts


def _from_script(file: Path) -> Iterator[tuple[int, str]]:
    text = file.read_text(encoding="utf-8")
    for match in _SCRIPT_STRINGS.finditer(text):
        value = next((group for group in match.groups() if group), "")
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"\${[^}]*}", COMPUTED, value)


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for each in sentences():
        if wanted in each.path or wanted in each.text:
            print(f"{each.path}:{each.line}: {each.text}")

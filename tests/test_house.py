"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "overpaint"
FILES = sorted(SRC.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}

MOST_LINES = 40
MOST_MODULES = 12


def test_no_class_or_type_name_is_defined_twice():
    homes = defaultdict(list)
    for file, tree in TREES.items():
        for node in tree.body:
            for name in class_or_alias(node):
                homes[name].append(str(file.relative_to(SRC)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def class_or_alias(node: ast.stmt) -> list[str]:
    """Names of the class, or of the type alias, that a statement defines."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
        names = [each.id for each in node.targets if isinstance(each, ast.Name)]
        return [name for name in names if name[:1].isupper() and not name.isupper()]
    return []


def test_functions_are_short():
    long = []
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_kernel(node):
                lines = body_lines(node)
                if lines > MOST_LINES:
                    long.append(f"{file.relative_to(SRC)}:{node.lineno} {node.name} {lines}")
    assert long == []


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether numba compiles it."""
    return any("njit" in ast.unparse(each) for each in node.decorator_list)


@pytest.mark.parametrize(
    "folder", sorted({file.parent for file in FILES}), ids=lambda each: each.name
)
def test_folders_are_packages_of_a_dozen_modules_at_most(folder):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES
    assert (folder / "__init__.py").exists()


def test_the_table_of_doors_is_as_the_code_says():
    from scripts import doors

    text = doors.PAGE.read_text(encoding="utf-8")
    assert doors.page(text) == text

"""Every file, name, variable, setting, route and link of the documents is there."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from overpaint.apps import settings
from tests.docs.pages import ROOT, Span, blocks, pages, spans

SOURCES = ("src", "tests", "benchmarks", "training", "examples", "scripts")

OTHERS_VARIABLES = {
    "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE",  # the hub client's
    "GOMP_SPINCOUNT", "OMP_PROC_BIND",  # OpenMP's
}  # fmt: skip

OTHERS_NAMES = {
    "quantization_config",  # of transformers' configurations
    "scale_weight", "weight_scale",  # tensors in files of other programs
    "from_single_file", "save_pretrained",  # diffusers'
    "p_unsafe",  # LAION's
    "WxH", "iVBOR",  # a size, a picture in base64
}  # fmt: skip

OTHERS_FILES = {
    "pipeline.py",  # of repositories on a hub
    "benchmarks/results/performance.md", "benchmarks/results/serving.md",  # that a command writes
}  # fmt: skip

NAMES = ("sd", "sd2")
"""A family and a model, for paths that have NAME in their place."""


def test_every_file_in_a_sentence_is_there():
    names = [(each, name) for each in spans() for name in file_names(each.text)]
    names = [(each, name) for each, name in names if name not in OTHERS_FILES]
    assert len(names) > 100
    known = [file.relative_to(ROOT).as_posix() for file in tracked_files()]
    faults = [
        f"{each.page}:{each.line}: {name}" for each, name in names if not is_file(name, known)
    ]
    assert not faults


def file_names(text: str) -> list[str]:
    """Paths of this repository in a span: with a slash, or the name of a Python file."""
    tops = r"(?:tests|benchmarks|src|scripts|examples|training|docs|core|engine|apps|families)"
    paths = re.findall(rf"(?<![\w/.]){tops}/[\w*./-]*[\w*]", text)
    return [*paths, *re.findall(r"(?<![\w/.*-])[a-z_]+(?:/[a-z_]+)*\.(?:py|js)\b", text)]


def is_file(name: str, known: list[str]) -> bool:
    """Whether a path from the root, from the package, or from a folder below it is there."""
    if "NAME" in name:
        return any(is_file(name.replace("NAME", there), known) for there in NAMES)
    if "*" in name:
        return any(ROOT.glob(name))
    end = "/" + name.rstrip("/")
    return any(f"/{each}".endswith(end) or f"{end}/" in f"/{each}" for each in known)


@cache
def tracked_files() -> list[Path]:
    kinds = {".py", ".md", ".js", ".json", ".yaml", ".yml", ".toml", ".html"}
    found = [file for top in (*SOURCES, "docs") for file in (ROOT / top).rglob("*")]
    return [file for file in found if file.suffix in kinds or not file.suffix]


def test_every_name_in_a_sentence_is_in_the_code():
    """Names with an underscore or an inner capital: of Python, options, settings, metrics."""
    faults = []
    for each in spans():
        for word in re.findall(r"(?<![\w./-])[A-Za-z]\w*", each.text):
            is_name = re.search(r"[a-z]_[a-z]|[a-z][A-Z]", word) and not word.isupper()
            if is_name and word not in words_of_the_code() | OTHERS_NAMES:
                faults.append(f"{each.page}:{each.line}: {word}")
    assert not faults


@cache
def words_of_the_code() -> frozenset[str]:
    found: set[str] = set()
    for file in tracked_files():
        is_test_of_documents = "tests/docs" in file.as_posix()
        if file.suffix != ".md" and file.is_file() and not is_test_of_documents:
            found.update(re.findall(r"[A-Za-z]\w*", file.read_text(encoding="utf-8")))
    return frozenset(found)


def test_every_environment_variable_is_read():
    ours = r"\b(?:OVERPAINT|CONTENT_SAFETY|UAI|AZUREML|HF|OMP|GOMP)_[A-Z_]+\b"
    texts = [*spans(), *(Span(each.page, each.line, each.text) for each in blocks("sh", "toml"))]
    faults = [
        f"{each.page}:{each.line}: {name}"
        for each in texts
        for name in re.findall(ours, each.text)
        if name not in words_of_the_code() | OTHERS_VARIABLES
    ]
    assert not faults


def test_every_setting_in_a_sentence_is_there():
    tables = "|".join(settings.Settings.model_fields)
    faults = []
    for each in spans():
        match = re.fullmatch(rf"\[*((?:{tables})(?:\.[\w*]+)+)\]*(?: = .*)?", each.text)
        if match and not is_setting(match[1].split("."), settings.Settings):
            faults.append(f"{each.page}:{each.line}: {each.text}")
    assert not faults


def is_setting(keys: list[str], table: type[BaseModel]) -> bool:
    """Whether the keys lead from a table to one of its values, or tables."""
    if not keys or keys == ["*"]:
        return True
    field = table.model_fields.get(keys[0])
    if field is None:
        return False
    below = list(_models_in(field.annotation))
    if not below:
        return len(keys) == 1 or "Mapping" in str(field.annotation) or "dict" in str(field)
    is_named = not isinstance(field.annotation, type) and "str," in str(field.annotation)
    rest = keys[2:] if is_named else keys[1:]
    return any(is_setting(rest, each) for each in below)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)


@pytest.mark.parametrize(
    "block", blocks("toml"), ids=lambda block: f"{Path(block.page).stem}-{block.line}"
)
def test_every_table_of_settings_is_read(block, tmp_path):
    file = tmp_path / "overpaint.toml"
    file.write_text(block.text, encoding="utf-8")
    if "[[lists]]" in block.text:
        from overpaint.safety import blocklist

        assert blocklist.load(file)
    elif "[project." in block.text:
        assert not block.page.startswith("docs/")
    else:
        assert settings.load({"OVERPAINT_CONFIG": str(file)})


@pytest.mark.parametrize(
    "block", blocks("yaml", "json"), ids=lambda block: f"{Path(block.page).stem}-{block.line}"
)
def test_every_other_file_is_one_of_its_kind(block, tmp_path):
    if block.language == "json":
        whole = block.text.lstrip().startswith(("{\n", "["))
        for text in [block.text] if whole else block.text.splitlines():
            assert json.loads(text)
    elif block.page == "docs/datasets.md":
        from overpaint.datasets.recipes import recipe

        values = yaml.safe_load(block.text)
        assert recipe.parse(values, "collect" if "quota" in values else "clean", base=tmp_path)
    else:
        assert yaml.safe_load(block.text)


def test_every_route_is_served():
    from overpaint.apps.server import app

    routes = [route for each in app._ROUTES for route in each.router.routes]
    routes += [each for each in app.create_app(settings.Settings()).routes if hasattr(each, "path")]
    served = {(method, route.path) for route in routes for method in route.methods}
    firsts = {path.split("/")[1] for _, path in served} - {""}
    faults = []
    for each in spans():
        for method, path in named_routes(each.text):
            is_ours = path.split("/")[1] in firsts or method
            if is_ours and not is_served(method, path, served):
                faults.append(f"{each.page}:{each.line}: {each.text}")
    assert not faults


def named_routes(text: str) -> list[tuple[str, str]]:
    """Pairs of a method, '' where none is named, and a path."""
    match = re.match(r"(?:(GET|POST|PUT|PATCH|DELETE) )?([/…][^\s?]*)", text)
    return [(match[1] or "", match[2])] if match and "/" in match[2] else []


def is_served(method: str, path: str, served: set[tuple[str, str]]) -> bool:
    """Whether a path, with {…}, MODEL or an ellipsis for parts of it, is one of the routes."""
    pattern = re.sub(r"\\{[^/]*?\\}|MODEL", "{[^/]*}", re.escape(path.rstrip("/") or "/"))
    pattern = pattern.replace("…", ".*")
    return any(
        re.fullmatch(pattern, route) or (pattern and re.match(pattern + "/", route))
        for allowed, route in served
        if method in ("", allowed)
    )


@pytest.mark.parametrize(
    "block", blocks("python"), ids=lambda block: f"{Path(block.page).stem}-{block.line}"
)
def test_every_name_in_python_is_there(block):
    """Imports, and what is taken from our modules, even in blocks that cannot run."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and is_ours(node.module):
            module = importlib.import_module(node.module)
            assert not [each.name for each in node.names if not hasattr(module, each.name)]
        elif isinstance(node, ast.Attribute) and is_ours(ast.unparse(node)):
            assert resolved(ast.unparse(node)) is not None


def is_ours(name: str | None) -> bool:
    return bool(name) and re.fullmatch(r"overpaint(\.\w+)*", name) is not None


def test_every_dotted_name_in_a_sentence_is_there():
    faults = []
    for each in spans():
        match = re.fullmatch(r"(overpaint(?:\.\w+)+)(?:\(.*\))?", each.text)
        if match and not each.text.endswith((".toml", ".html")) and resolved(match[1]) is None:
            faults.append(f"{each.page}:{each.line}: {each.text}")
    assert not faults


def resolved(name: str) -> Any:
    """What a dotted name stands for; None where it stands for nothing."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found
    return getattr(builtins, name, None)


def test_every_link_leads_to_a_file():
    """MkDocs checks those between pages; README and CONTRIBUTING are no pages of the site."""
    faults = []
    for page, text in pages().items():
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            target, _, anchor = link.partition("#")
            file = (ROOT / page).parent / target if target else ROOT / page
            if link.startswith("http"):
                continue
            if not file.exists() or (anchor and anchor not in anchors(file)):
                faults.append(f"{page}: {link}")
    assert not faults


def anchors(file: Path) -> set[str]:
    """Of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", each.lower()) for each in headings)
    return {re.sub(r"\s+", "-", each.strip()) for each in plain}


def test_every_page_says_first_for_whom_it_is():
    faults = []
    for page, text in pages().items():
        if page.startswith("docs/") and page != "docs/index.md":
            first = text.split("\n\n")[1]
            if not re.match(r"For (everyone|people|programmers|those|data|vision) ", first):
                faults.append(f"{page}: {first[:60]}")
    assert not faults

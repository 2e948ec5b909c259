"""Every command, option, module and target that the documents name is there."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest
import typer

from overpaint.apps.cli.commands import app
from tests.docs.pages import ROOT, Span, command_lines, spans, words

CLI = typer.main.get_command(app)

PLACEHOLDERS = {"COMMAND", "…"}
"""Words in the place of a command."""

OTHERS_OPTIONS = {
    "--exclude-editable",  # pip
    "--env-manager",  # mlflow
    "--model-uri",  # mlflow
    "-k",  # pytest
}
"""Options of other programs, which the documents show in passing."""


def test_every_command_line_parses():
    """By the parser of the command line itself: names, options, numbers of arguments, choices."""
    lines = [each for each in command_lines() if re.match(r"(?:\S*=\S+ )*overpaint ", each.text)]
    assert len(lines) > 30
    faults = [f"{each.page}: {each.text}: {fault}" for each in lines if (fault := parsed(each))]
    assert not faults


def parsed(line: Span) -> str:
    """What the command line says against a command; '' where it takes it."""
    said = words(re.sub(r"\$\([^)]*\)", "x", line.text))
    command, context, rest = CLI, None, said[said.index("overpaint") + 1 :]
    try:
        while True:
            context = command.make_context("overpaint", list(rest), parent=context)
            if not hasattr(command, "resolve_command"):
                return ""
            _, command, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
    except click.exceptions.Exit:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"


def test_every_command_in_a_sentence_is_there():
    """Commands with gaps, as in tables: their names and options, not their arguments."""
    faults = []
    for each in spans():
        command, said = named_command(each.text)
        if command is CLI and not each.text.startswith("overpaint "):
            continue
        if command is CLI and not said[0].startswith(("-", *PLACEHOLDERS)):
            faults.append(f"{each.page}:{each.line}: {each.text}: no such command")
        known = {"--help", *all_options(command)}
        named = {match[0] for word in said if (match := re.match(r"--?[a-z][a-z-]*", word))}
        faults += [f"{each.page}:{each.line}: {each.text}: no {name}" for name in named - known]
    assert not faults


def named_command(text: str) -> tuple[click.Command, list[str]]:
    """The command that a span begins with, and its further words."""
    said = re.sub(r"[\[\]]", " ", text.removeprefix("overpaint ")).replace("\\|", "|").split()
    command: click.Command = CLI
    while said and said[0] in getattr(command, "commands", {}):
        command, said = command.commands[said[0]], said[1:]
    return command, said


def test_every_option_in_a_sentence_is_there():
    known = {name for command in every_command(CLI) for name in all_options(command)}
    known |= flags_of_programs() | OTHERS_OPTIONS | {"--help"}
    faults = []
    for each in spans():
        option = re.match(r"--?[a-zA-Z][a-z-]*", each.text)
        if option and option[0] not in known:
            faults.append(f"{each.page}:{each.line}: {each.text}")
    assert not faults


def every_command(command: click.Command) -> list[click.Command]:
    below = getattr(command, "commands", {}).values()
    return [command, *(deeper for each in below for deeper in every_command(each))]


def all_options(command: click.Command) -> list[str]:
    """All spellings of a command's options."""
    return [name for each in command.params for name in (*each.opts, *each.secondary_opts)]


@cache
def flags_of_programs() -> set[str]:
    """Options of the programs beside the command line: benchmarks, training, tests, Ray Serve."""
    files = [
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "training").rglob("*.py"),
        *(ROOT / "tests/attack").rglob("*.py"),
        *(ROOT / "src/overpaint/apps").glob("*.py"),
        *(ROOT / "scripts").glob("*.py"),
    ]
    return {flag for file in files for flag in flags_in(file)}


def flags_in(file: Path) -> set[str]:
    """Strings in a program that look like options."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {each for each in strings if isinstance(each, str) and re.fullmatch(r"-[-\w]+", each)}


def test_every_module_that_is_run_is_there_with_its_options():
    lines = [*command_lines(), *spans()]
    runs = [each for each in lines if re.search(r"python -m (?!pytest|pip)[a-z]", each.text)]
    assert len(runs) > 40
    faults = []
    for each in runs:
        module, *said = words(re.split(r"python -m ", each.text)[1])
        sources = sources_of(module)
        known = {flag for file in sources for flag in flags_in(file)}
        options = {word.split("=")[0] for word in said if re.match(r"--?[a-z]", word)}
        if not sources or options - known:
            faults.append(f"{each.page}:{each.line}: {module} {sorted(options - known)}")
    assert not faults


def sources_of(module: str) -> list[Path]:
    """The files of a module or package; [] where there is none."""
    for root in (ROOT, ROOT / "src"):
        place = root / module.replace(".", "/")
        if place.with_suffix(".py").is_file():
            return [place.with_suffix(".py")]
        if (place / "__main__.py").is_file():
            return [*place.rglob("*.py")]
    return []


@pytest.mark.parametrize("kind", ["make", "pip install"])
def test_every_target_and_every_extra_is_there(kind):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    texts = [each.text for each in [*command_lines(), *spans()]]
    if kind == "make":
        lines = (re.fullmatch(r"make ([a-z][\w-]*)(?: +(?:[A-Z]+=|#).*)?", text) for text in texts)
        named = {match[1] for match in lines if match}
        assert named <= set(targets)
    else:
        said = {extra for text in texts for extra in re.findall(r"overpaint\[([\w,]+)\]", text)}
        named = {extra for each in said for extra in each.split(",")}
        assert named <= set(project["optional-dependencies"])

"""Options of commands are made from the table of an edit's parts."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from overpaint.apps.cli import parts
from overpaint.apps.cli.commands import app
from overpaint.apps.cli.editing import edits
from overpaint.core.parts import Part
from overpaint.core.types import PARTS

NEW = Part("lighting", "picture", "A picture with the light to copy.", family=True)


@pytest.mark.parametrize("leave_out", [{}, {"control": "a reason"}])
def test_a_new_part_is_an_option_of_every_command(monkeypatch, leave_out):
    monkeypatch.setattr(parts, "PARTS", (*PARTS, NEW))
    shared = edits.common_options(leave_out, **edits.FILES)
    assert "lighting" in shared
    assert list(shared).index("mask") < list(shared).index("lighting") < list(shared).index("out")

    seen: list[dict[str, object]] = []
    small = typer.Typer()
    small.command()(parts.with_arguments({"image": edits.Image}, shared)(seen.append))
    done = CliRunner().invoke(small, ["photo.png", "--lighting", "lamp.png", "--seed", "3"])
    assert done.exit_code == 0, done.output
    taken = parts.take_parts(seen[0])
    assert (str(taken["lighting"]), taken["seed"], taken["image"]) == ("lamp.png", 3, "photo.png")
    assert taken["mask"] is None
    assert "lighting" not in seen[0]


def test_a_part_that_is_left_out_must_exist():
    with pytest.raises(AssertionError, match="lamp"):
        parts.options_of_parts({"lamp": "a reason"})


@pytest.mark.parametrize("name", [part.name for part in PARTS if part.is_visual])
def test_replay_takes_every_picture_that_a_recipe_names(name):
    told = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["replay", "--help"]).output
    assert parts.flag_of(name) in told


def test_a_part_that_a_command_leaves_out_is_no_option():
    told = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["erase", "--help"]).output
    assert "--copy-from" in told
    assert "--negative" not in told
    assert "--reference" not in told

"""Where results go."""

from __future__ import annotations

from pathlib import Path

import pytest

from overpaint.apps.cli.editing import output
from overpaint.core.errors import OutputError

pytestmark = pytest.mark.usefixtures("desk")


def names(image, asked=None, count=1, *, force=False):
    return [str(path) for path in output.choose(image, asked, count, force=force).paths]


def test_the_default_is_a_free_name_beside_the_input():
    assert names("photo.jpg") == ["photo-edited.png"]
    Path("photo-edited.png").touch()
    assert names("photo.jpg") == ["photo-edited-2.png"]
    Path("photo-edited-2.png").touch()
    assert names("photo.jpg") == ["photo-edited-3.png"]
    assert names("photo.jpg", force=True) == ["photo-edited.png"]


def test_several_pictures_are_numbered():
    assert names("photo.jpg", count=2) == ["photo-edited-1.png", "photo-edited-2.png"]
    Path("photo-edited-2.png").touch()
    assert names("photo.jpg", count=2) == ["photo-edited-3.png", "photo-edited-4.png"]
    assert names("photo.jpg", "out.webp", 2) == ["out-1.webp", "out-2.webp"]


def test_a_named_file_may_exist_but_not_be_the_input():
    Path("out.png").touch()
    assert names("photo.png", "out.png") == ["out.png"]
    with pytest.raises(OutputError, match="is the input itself"):
        names("photo.png", "photo.png")
    assert names("photo.png", "photo.png", force=True) == ["photo.png"]


def test_a_picture_from_stdin_goes_to_stdout():
    assert names("-") == []
    assert names("-", "out.png") == ["out.png"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("missing/out.png", "missing is not a folder"),
        ("photo.png/out.png", "photo.png is not a folder"),
        ("/proc/out.png", "/proc cannot be written to"),
        ("out.gif", "ends in '.gif'; use one of .png,"),
        ("out", "ends in ''"),
        ("folder.png", "folder.png is a folder"),
    ],
)
def test_a_place_that_cannot_be_written_to(asked, said):
    Path("folder.png").mkdir()
    with pytest.raises(OutputError, match=said):
        names("photo.png", asked)


def test_several_pictures_do_not_fit_stdout():
    with pytest.raises(OutputError, match="2 pictures cannot go"):
        names("photo.png", "-", 2)


def test_a_terminal_gets_no_picture(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(OutputError, match="is a terminal"):
        names("-")

"""Where results go."""

from __future__ import annotations

from pathlib import Path

import pytest

from overpaint.apps.cli.editing import output
from overpaint.apps.cli.editing.output import Encoding
from overpaint.core.errors import InvalidImage, OutputError
from overpaint.core.imaging.images import Picture
from tests.apps.conftest import SIZE
from tests.conftest import picture

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


def test_no_input_is_written_over():
    with pytest.raises(OutputError, match=r"mask\.png is one of the edit's inputs"):
        output.choose("photo.png", "mask.png", 1, force=False, others=[Path("mask.png")])
    Path("link.png").symlink_to("mask.png")
    with pytest.raises(OutputError, match="one of the edit's inputs"):
        output.choose("photo.png", "link.png", 1, force=False, others=[Path("mask.png")])
    forced = output.choose("photo.png", "mask.png", 1, force=True, others=[Path("mask.png")])
    assert forced.paths == (Path("mask.png"),)


def test_a_typo_in_the_inputs_folder_is_the_inputs():
    with pytest.raises(InvalidImage, match="there is no folder phtos") as caught:
        output.choose("phtos/photo.png", None, 1, force=False)
    assert caught.value.field == "image"


@pytest.mark.parametrize("folder", [".", "..", "/", "photos"])
def test_a_folder_is_no_picture(folder):
    Path("photos").mkdir()
    with pytest.raises(InvalidImage, match="is a folder; give the path of a picture") as caught:
        output.choose(folder, None, 1, force=False)
    assert caught.value.field == "image"


class TestEncoding:
    def chosen(self, out, **encoding):
        return output.choose("photo.png", out, 1, force=False, encoding=Encoding(**encoding))

    def test_the_format_gives_the_suffix(self):
        assert self.chosen(None, format="webp").paths == (Path("photo-edited.webp"),)
        assert self.chosen(None, format="jpeg").paths == (Path("photo-edited.jpg"),)
        assert self.chosen("x.JPG", format="jpg").paths == (Path("x.JPG"),)

    @pytest.mark.parametrize(
        ("out", "encoding", "field"),
        [
            ("x.png", {"format": "webp"}, "format"),
            ("x.png", {"format": "gif"}, "format"),
            ("x.png", {"quality": 80}, "quality"),
            (None, {"quality": 80}, "quality"),
            ("x.jpg", {"quality": 0}, "quality"),
        ],
    )
    def test_what_does_not_go_together(self, out, encoding, field):
        with pytest.raises(OutputError) as caught:
            self.chosen(out, **encoding)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("out", "quality", "lossy"),
        [("x.jpg", None, "JPEG"), ("x.webp", None, None), ("x.webp", 80, "WEBP")],
    )
    def test_quality_is_used_and_a_loss_is_said(self, out, quality, lossy):
        photo = Picture(picture(*SIZE))
        small, large = (self.chosen(out, quality=each) for each in (quality, 100))
        small.write([photo])
        size = Path(out).stat().st_size
        assert [lossy in each for each in small.warnings] == ([True] if lossy else [])
        Path(out).unlink()
        large.write([photo])
        assert (Path(out).stat().st_size > size) is (lossy is not None)


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
        ("out", "out has no ending; use one of .png,"),
        (".", r"\. is a folder; add a file name"),
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

"""Saving: whole or not at all, with an error that says what to do."""

from __future__ import annotations

import errno
import os
import resource
import signal

import pytest
from PIL import Image

from overpaint.core.errors import InvalidRequest, OutputError
from overpaint.core.files import atomic_write
from overpaint.core.imaging.images import Picture, decode, save


@pytest.fixture
def picture() -> Picture:
    return Picture(Image.effect_noise((40, 30), 80).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.b.webp", "WEBP")],
)
def test_the_suffix_names_the_format(tmp_path, picture, name, expected):
    save(picture, tmp_path / name)
    assert decode(tmp_path / name).format == expected
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.txt", ".png"])
def test_an_unknown_suffix(tmp_path, picture, name):
    with pytest.raises(OutputError, match=r"output: .* use \.png, \.jpg, \.jpeg, \.webp"):
        save(picture, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_options_reach_the_encoder(tmp_path, picture):
    save(picture, tmp_path / "good.jpg", quality=95)
    save(picture, tmp_path / "bad.jpg", quality=10)
    assert (tmp_path / "bad.jpg").stat().st_size < (tmp_path / "good.jpg").stat().st_size
    with pytest.raises(InvalidRequest, match="quality"):
        save(picture, tmp_path / "worse.jpg", quality=0)


def test_a_file_is_replaced_and_has_the_usual_rights(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    atomic_write(str(path), b"new")
    assert path.read_bytes() == b"new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    atomic_write(link, b"data")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"data"


def test_a_name_as_long_as_names_may_be(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    atomic_write(path, b"data")
    with pytest.raises(OutputError, match="File name too long"):
        atomic_write(tmp_path / ("n" * 300), b"data")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/a.png", "file/a.png"])
def test_the_folder_is_missing(tmp_path, picture, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"is not a folder; create it") as caught:
        save(picture, tmp_path / name, field="job.output")
    assert caught.value.field == "job.output"
    assert str((tmp_path / name).parent) in caught.value.message


def test_the_path_is_a_folder(tmp_path, picture):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match=r"a\.png is a folder"):
        save(picture, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "not writable"),
        (errno.EROFS, "not writable"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_whatever_the_system_refuses(tmp_path, monkeypatch, number, message, step):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    owner = os if step == "fsync" else type(path)
    monkeypatch.setattr(owner, step, refuse)
    with pytest.raises(OutputError, match=message):
        atomic_write(path, b"new")
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_file_larger_than_the_system_allows(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutputError, match="disk is full"):
            atomic_write(path, bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "file", b"data")
    assert not list(tmp_path.iterdir())

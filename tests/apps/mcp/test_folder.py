"""Files below one folder, and nothing outside of it."""

from __future__ import annotations

import os

import pytest

from overpaint.apps.mcp.folder import Folder
from overpaint.core.errors import InvalidImage, InvalidRequest, InvalidSettings, OutputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    (inner / "a.png").write_bytes(b"picture")
    (inner / "sub" / "b.png").write_bytes(b"another")
    (inner / "alias.png").symlink_to("a.png")
    (inner / "out.png").symlink_to(tmp_path / "secret.png")
    (inner / "away").symlink_to(tmp_path)
    (inner / "round").symlink_to("round")
    os.mkfifo(inner / "pipe.png")
    return Folder.at(inner)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.png", b"picture"), ("sub/b.png", b"another"), ("./a.png", b"picture"),
     ("alias.png", b"picture")],
)  # fmt: skip
def test_what_is_below_the_folder_is_read(folder, name, content):
    assert folder.read(name, "image", 100) == content


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "sub/../../secret.png", "sub\\..\\..\\secret.png", "/etc/passwd", "out.png",
     "away/secret.png", "C:\\secret.png", "C:secret.png", "\\\\host\\share", "", ".", "a.png\0",
     "round", "sub/..", "~/secret.png"],
)  # fmt: skip
def test_nothing_else_is(folder, name):
    with pytest.raises(InvalidRequest) as raised:
        folder.read(name, "image", 100)
    assert raised.value.field == "image"
    assert "secret" not in raised.value.message.replace(name, "").replace(repr(name), "")


@pytest.mark.parametrize("name", ["none.png", "sub", "pipe.png"])
def test_what_is_no_file(folder, name):
    with pytest.raises(InvalidImage):
        folder.read(name, "mask", 100)


def test_a_file_that_is_too_large(folder):
    with pytest.raises(InvalidImage, match="more than the limit of 6"):
        folder.read("a.png", "image", 6)


def test_new_files(folder):
    assert folder.free_names("new.png", 1, "output") == ["new.png"]
    assert folder.free_names("sub/new.webp", 2, "output") == ["sub/new-1.webp", "sub/new-2.webp"]
    folder.write("sub/new.webp", b"made", "output")
    assert (folder.root / "sub" / "new.webp").read_bytes() == b"made"


@pytest.mark.parametrize(
    "name", ["a.png", "out.png", "../new.png", "none/new.png", "new.txt", "new", "away/new.png"]
)
def test_where_nothing_is_written(folder, name):
    with pytest.raises((InvalidRequest, OutputError)) as raised:
        folder.free_names(name, 1, "output")
    assert raised.value.field == "output"
    assert sorted(each.name for each in folder.root.parent.iterdir()) == ["inner", "secret.png"]


def test_a_link_that_comes_between_is_not_followed_out(folder, tmp_path):
    (folder.root / "late.png").symlink_to(tmp_path / "victim.png")
    with pytest.raises(InvalidRequest):
        folder.write("late.png", b"x", "output")
    assert not (tmp_path / "victim.png").exists()


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(InvalidSettings):
        Folder.at(tmp_path / "none")

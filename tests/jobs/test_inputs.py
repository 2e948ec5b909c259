"""Files of a batch's input: hashed once, and read again when they changed."""

from __future__ import annotations

import hashlib
import os

import pytest

from overpaint.core.errors import InvalidImage
from overpaint.jobs import inputs
from overpaint.jobs.inputs import Fingerprints


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "a.png"
    made.write_bytes(b"\x89first")
    os.utime(made, (1000, 1000))
    return made


@pytest.fixture
def hashed(monkeypatch):
    """Files that are read to be hashed."""
    read, real = [], inputs._hash

    def noted(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(inputs, "_hash", noted)
    return read


def fingerprint(file, folder, **options) -> str:
    fingerprints = Fingerprints(folder / "inputs.sqlite", **options)
    try:
        return fingerprints.of(inputs.input_file(file, "image"), "image").sha256
    finally:
        fingerprints.close()


def test_a_file_is_hashed_once(tmp_path, file, hashed):
    first = fingerprint(file, tmp_path)
    assert first == hashlib.sha256(b"\x89first").hexdigest()
    assert fingerprint(file, tmp_path) == first
    assert hashed == ["a.png"]
    assert fingerprint(file, tmp_path, verify=True) == first
    assert hashed == ["a.png"] * 2


@pytest.mark.parametrize("kind", ["size", "time", "inode"])
def test_a_file_that_changed_is_hashed_again(tmp_path, file, hashed, kind):
    first = fingerprint(file, tmp_path)
    if kind == "inode":
        other = tmp_path / "other"
        other.write_bytes(b"\x89other")
        os.utime(other, (1000, 1000))
        other.replace(file)
    else:
        file.write_bytes(b"\x89longer." if kind == "size" else b"\x89other")
        os.utime(file, (1000, 1000) if kind == "size" else (2000, 2000))
    assert fingerprint(file, tmp_path) != first
    assert len(hashed) == 2


def test_a_file_of_this_moment_is_not_remembered(tmp_path, file, hashed, monkeypatch):
    monkeypatch.setattr(inputs, "SETTLED_SECONDS", 3600)
    file.touch()
    for _ in range(2):
        fingerprint(file, tmp_path)
    assert len(hashed) == 2


def test_a_damaged_memory_is_begun_anew(tmp_path, file, hashed):
    (tmp_path / "inputs.sqlite").write_bytes(b"no database at all" * 100)
    for _ in range(3):
        fingerprint(file, tmp_path)
    assert len(hashed) == 2


def test_a_file_that_changed_since_it_was_hashed_is_not_used(tmp_path, file):
    known = Fingerprints().of(inputs.input_file(file, "image"), "image")
    file.write_bytes(b"\x89other")
    with pytest.raises(InvalidImage, match="--verify"):
        known.read("image")

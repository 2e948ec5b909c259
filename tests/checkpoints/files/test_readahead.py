"""Weights are asked for as they will be used, and no more than memory holds."""

from __future__ import annotations

import os
import threading
import types

import pytest
import torch

from overpaint.checkpoints.compute.backends import Backend
from overpaint.checkpoints.files import readahead
from overpaint.checkpoints.placement import Placement
from tests.conftest import open_checkpoint

FLOAT32 = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def asked(monkeypatch):
    """(size of the file, offset, length) of each hint."""
    hints = []

    def take(descriptor, begin, length, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        hints.append((os.fstat(descriptor).st_size, begin, length))

    monkeypatch.setattr(os, "posix_fadvise", take)
    return hints


def wait():
    for thread in threading.enumerate():
        if thread.name == "readahead":
            thread.join(10)


@pytest.fixture
def files(tmp_path):
    made = []
    for number, size in enumerate((3 * readahead.PIECE, 10, readahead.PIECE + 1)):
        made.append(tmp_path / f"{number}")
        made[-1].write_bytes(b"\0" * size)
    return made


def test_all_of_each_file_in_order(files, asked):
    readahead.start(files)
    wait()
    piece = readahead.PIECE
    assert [(size, begin) for size, begin, _ in asked] == [
        (3 * piece, 0),
        (3 * piece, piece),
        (3 * piece, 2 * piece),
        (10, 0),
        (piece + 1, 0),
        (piece + 1, piece),
    ]


def test_no_more_than_free_memory(files, asked, monkeypatch):
    room = types.SimpleNamespace(available=2 * readahead.PIECE)
    monkeypatch.setattr(readahead.psutil, "virtual_memory", lambda: room)
    readahead.start(files)
    wait()
    assert len(asked) == 2


def test_a_missing_file_ends_it(files, asked):
    files[0].unlink()
    readahead.start(files)
    wait()
    assert asked == []


def test_systems_without_the_hint(files, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.setattr(readahead, "Thread", None)
    readahead.start(files)


def test_the_denoiser_is_read_last(checkpoint_folder, monkeypatch):
    read = []
    monkeypatch.setattr(readahead, "start", read.extend)
    for family, last in (("sd2", "unet"), ("flex2", "transformer")):
        read.clear()
        open_checkpoint(checkpoint_folder(family), FLOAT32).read_ahead()
        assert read[-1].parent.name == last
        names = [file.parent.name for file in read]
        assert {"vae", "text_encoder"} <= set(names[: -names.count(last)])
        sizes = [file.stat().st_size for file in read[: -names.count(last)]]
        assert sizes == sorted(sizes)


def test_what_is_not_needed_is_not_read(checkpoint_folder, monkeypatch, tmp_path):
    read = []
    monkeypatch.setattr(readahead, "start", read.extend)
    backend = Backend("openvino", tmp_path)
    open_checkpoint(checkpoint_folder("sd2"), FLOAT32, backend=backend).read_ahead()
    assert [file.parent.name for file in read] == ["text_encoder"]


def test_where_parts_take_turns_in_memory_nothing_is_read_ahead(checkpoint_folder, monkeypatch):
    read = []
    monkeypatch.setattr(readahead, "start", read.extend)
    checkpoint = open_checkpoint(checkpoint_folder("flex2"), FLOAT32)
    checkpoint.take_turns = True
    checkpoint.read_ahead()
    assert read == []

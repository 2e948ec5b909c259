"""Ids of tasks: the bytes of a picture are hashed once, wherever they lie."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overpaint.datasets.places import InFile, InParquet, InTar, Item, Nowhere, Place
from overpaint.datasets.tasks import source_digest
from overpaint.jobs.inputs import Fingerprints

PARTS = (b"\x89first picture", b"\x89other picture")


def in_files(folder: Path) -> list[Place]:
    for number, data in enumerate(PARTS):
        (folder / f"{number}.png").write_bytes(data)
    return [InFile(folder / f"{number}.png") for number in range(2)]


def in_a_tar(folder: Path) -> list[Place]:
    in_files(folder)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(2):
            tar.add(folder / f"{number}.png")
    with tarfile.open(folder / "a.tar") as tar:
        return [InTar(folder / "a.tar", each.offset_data, each.size) for each in tar.getmembers()]


def in_parquet(folder: Path) -> list[Place]:
    path = folder / "a.parquet"
    pq.write_table(pa.table({"image": list(PARTS)}), path)
    return [InParquet(path, 0, row, "image") for row in range(2)]


@pytest.mark.parametrize("put", [in_files, in_a_tar, in_parquet])
def test_bytes_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Any) -> None:
    places = put(tmp_path)
    for path in {place.path for place in places}:
        os.utime(path, (1000, 1000))
    read, reads = type(places[0]).read, []

    def noted(place: Any) -> bytes:
        reads.append(place)
        return bytes(read(place))

    monkeypatch.setattr(type(places[0]), "read", noted)
    for expected in (2, 2):
        fingerprints = Fingerprints(tmp_path / "inputs.sqlite")
        digests = [source_digest(Item("a", place), fingerprints) for place in places]
        fingerprints.close()
        assert digests == [hashlib.sha256(data).hexdigest() for data in PARTS]
        assert len(reads) == expected


def test_places_without_a_file(tmp_path: Path) -> None:
    gone = Item("gone", InFile(tmp_path / "gone.png"))
    assert source_digest(gone, Fingerprints()) is None
    blank = Item("blank", Nowhere(16, 16, "#808080"))
    assert source_digest(blank, Fingerprints()) is not None

"""Samples of WebDataset tars, without reading their pictures."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from overpaint.core.imaging.codecs.formats import SUFFIXES
from overpaint.datasets.places import InTar, Item, Knowledge
from overpaint.datasets.sources import tables

TEXTS = ("txt", "caption", "cls")
"""Suffixes of members that are text."""


def samples(shard: Path) -> Iterator[Item]:
    """Samples of a tar: members that follow each other and share the name up to the first dot."""
    key, members = None, dict[str, InTar]()
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            if not member.isfile():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if (here := folder + slash + stem) != key:
                yield from _sample(shard, key, members)
                key, members = here, {}
            members[suffix.lower()] = InTar(shard, member.offset_data, member.size)
    yield from _sample(shard, key, members)


def _sample(shard: Path, key: str | None, members: Mapping[str, InTar]) -> Iterator[Item]:
    image = next((name for name in _suffixes("") if name in members), None)
    if key is None or image is None:
        return
    mask = next((name for name in _suffixes("mask.") if name in members), None)
    row: dict[str, Any] = {}
    if "json" in members and members["json"].length <= tables.LONGEST_LINE:
        value = tables.parsed(members["json"].read())
        row = value if isinstance(value, dict) else {}
    for suffix in TEXTS:
        if suffix in members and members[suffix].length <= tables.LONGEST_LINE:
            row[suffix] = members[suffix].read().decode("utf-8", "replace")
    knowledge = tables.knowledge(row)
    carried = {image, mask, "json", *TEXTS}
    yield Item(
        f"{shard.name}/{key}",
        members[image],
        None if mask is None else members[mask],
        tables.fields(row),
        knowledge=Knowledge(
            columns=knowledge.columns,
            annotations=knowledge.annotations,
            files={name: place for name, place in members.items() if name not in carried},
        ),
    )


def _suffixes(prefix: str) -> list[str]:
    return [prefix + suffix[1:] for suffix in SUFFIXES]

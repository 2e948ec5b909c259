"""Formats of data sets: Hugging Face image folder, WebDataset, COCO, Parquet, edit triples."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from overpaint.datasets.output import carried

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT = "train"

ROLES = ("image", "source", "mask", "source_mask")
"""Pictures of a sample."""

_TRIPLE = {
    "image": "target_img",
    "source": "source_img",
    "mask": "mask_img",
    "source_mask": "source_mask_img",
}
"""Their names in MagicBrush."""


@dataclass(frozen=True, kw_only=True)
class DataSetLayout:
    """What is known of a data set before its pictures are read.

    Attributes:
        shard: pictures in one tar or Parquet file.
        roles: pictures that a sample may have.
        carried: columns that the sources gave, with their types as Arrow has them.
        is_annotated: whether the sources have annotations.
    """

    shard: int
    roles: tuple[str, ...] = ROLES
    carried: Mapping[str, Any] = field(default_factory=dict)
    is_annotated: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture of a data set.

    Attributes:
        key: its number.
        image: encoded; as it was, where it was not edited.
        source: encoded; None = it does not go along.
        mask: PNG, 255 = what the edit was to repaint; None = there was none.
        metadata: of the row, with what the source said.
        source_mask: encoded; the mask that came with the picture.
        annotations: of things in the picture, as COCO has them, each with its `category`.
        categories: of the COCO file that it came from.
        files: further members of its WebDataset sample, by suffix.
    """

    key: str
    image: bytes
    source: bytes | None
    mask: bytes | None
    metadata: dict[str, Any]
    source_mask: bytes | None = None
    annotations: Sequence[dict[str, Any]] = ()
    categories: Sequence[Mapping[str, Any]] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """What there is, by its role: see `ROLES`."""
        yield "image", self.image
        if self.source is not None:
            yield "source", self.source
        if self.mask is not None:
            yield "mask", self.mask
        if self.source_mask is not None:
            yield "source_mask", self.source_mask

    def edited(self) -> NDArray[np.bool_]:
        """H x W: the mask, else what differs from the source."""
        from overpaint.datasets.measure import changed_pixels

        image = Image.open(io.BytesIO(self.image)).convert("RGB")
        if self.mask is not None:
            return as_mask(self.mask)
        if self.source is not None:
            source = Image.open(io.BytesIO(self.source)).convert("RGB")
            if source.size == image.size:
                return changed_pixels(source, image)
        return np.zeros(image.size[::-1], bool)


def imagefolder(folder: Path, samples: Iterable[Sample], _layout: DataSetLayout) -> None:
    """Pictures and metadata.jsonl, as `datasets.load_dataset('imagefolder', …)` reads them.

    Columns: image, source, mask (where there are any) and the metadata.
    """
    split_folder = folder / SPLIT
    lines = []
    for sample in samples:
        row: dict[str, Any] = {}
        for role, data in sample.pictures():
            name = f"{role}/{sample.key}{suffix(data)}"
            (split_folder / role).mkdir(parents=True, exist_ok=True)
            (split_folder / name).write_bytes(data)
            row["file_name" if role == "image" else f"{role}_file_name"] = name
        lines.append(row | sample.metadata)
    split_folder.mkdir(exist_ok=True)
    _json_lines(split_folder / "metadata.jsonl", _aligned(lines))


def triples(folder: Path, samples: Iterable[Sample], layout: DataSetLayout) -> None:
    """Source, instruction and target, with MagicBrush's names, for training editors.

    Only edited pictures, and only where the source goes along. The sources' own columns follow.
    """
    split_folder = folder / SPLIT
    split_folder.mkdir()
    lines = []
    for sample in samples:
        if sample.source is None or sample.metadata["ending"] != "edited":
            continue
        row: dict[str, Any] = {"img_id": sample.metadata["source_name"], "turn_index": 1}
        for role, data in sample.pictures():
            title = _TRIPLE[role]
            name = f"{title}/{sample.key}{suffix(data)}"
            (split_folder / title).mkdir(exist_ok=True)
            (split_folder / name).write_bytes(data)
            row[f"{title}_file_name"] = name
        row["instruction"] = sample.metadata["prompt"]
        about = {name: sample.metadata[name] for name in layout.carried}
        lines.append(row | carried.columns(about, row))
    _json_lines(split_folder / "metadata.jsonl", _aligned(lines))


def webdataset(folder: Path, samples: Iterable[Sample], layout: DataSetLayout) -> None:
    """Tar files of KEY.png, KEY.source.png, KEY.mask.png and KEY.json; KEY.txt has the caption,
    KEY.cls the number of the class, and further members of the source's samples follow.
    """
    for number, some in enumerate(_batched(samples, layout.shard)):
        with tarfile.open(folder / f"{SPLIT}-{number:06d}.tar", "w") as tar:
            for sample in some:
                for role, data in sample.pictures():
                    role_name = "" if role == "image" else f".{role}"
                    _add(tar, f"{sample.key}{role_name}{suffix(data)}", data)
                for suffix_, data in _members(sample).items():
                    _add(tar, f"{sample.key}.{suffix_}", data)


def parquet(folder: Path, samples: Iterable[Sample], layout: DataSetLayout) -> None:
    """Parquet files with pictures as Hugging Face's Image feature has them, in a folder alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    split_folder = folder / SPLIT
    split_folder.mkdir()
    types = {**layout.carried, "flagged": pa.bool_(), "shows_score": pa.float64()}
    for number, some in enumerate(_batched(samples, layout.shard)):
        columns = {
            role: pa.array([_cell(each, role) for each in some], picture) for role in layout.roles
        }
        for key in dict.fromkeys(key for sample in some for key in sample.metadata):
            columns[key] = _column([each.metadata.get(key) for each in some], types.get(key))
        table = pa.table(columns)
        features = {
            key: {"_type": "Image"}
            if key in layout.roles
            else _feature(table.schema.field(key).type)
            for key in columns
        }
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
        pq.write_table(table, split_folder / f"{number:06d}.parquet", row_group_size=100)


def suffix(data: bytes) -> str:
    """The suffix of an encoded picture's file, by its first bytes."""
    if data.startswith(b"\xff\xd8"):
        return ".jpg"
    return ".webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ".png"


def as_mask(data: bytes) -> NDArray[np.bool_]:
    """H x W of an encoded mask."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")) >= 128


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: of 0 and 1 in turn, column by column."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(np.diff(flat)).tolist()
    edges = [0, *starts, mask.size]
    return [end - start for start, end in pairwise(edges)]


def _batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while some := list(islice(rest, size)):
        yield some


def _cell(sample: Sample, role: str) -> dict[str, Any] | None:
    data = dict(sample.pictures()).get(role)
    if data is None:
        return None
    return {"bytes": data, "path": f"{sample.key}-{role}{suffix(data)}"}


def _column(values: list[Any], kind: Any) -> Any:
    """An array of that type; None = of the type of its values, words where there are none."""
    import pyarrow as pa

    is_empty = all(value is None for value in values)
    return pa.array(values, pa.string() if kind is None and is_empty else kind)


def _feature(kind: Any) -> Any:
    """Hugging Face's name of a column's type."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {each.name: _feature(each.type) for each in kind}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    names = {"double": "float64", "large_string": "string"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


def _members(sample: Sample) -> dict[str, bytes]:
    """Members of a WebDataset sample beside its pictures, by suffix."""
    metadata = sample.metadata
    members = {"json": json.dumps(metadata, ensure_ascii=False).encode()}
    if (words := carried.caption(metadata)) is not None:
        members["txt"] = words.encode()
    if (number := carried.class_number(metadata)) is not None:
        members["cls"] = number.encode()
    return dict(sample.files) | members


def _aligned(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the same keys: readers take the columns from the first ones."""
    keys = list(dict.fromkeys(key for line in lines for key in line))
    return [{key: line.get(key) for key in keys} for line in lines]


def _json_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner, no time: the same pictures give the same tar
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))

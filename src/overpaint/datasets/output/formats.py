"""Formats of data sets: Hugging Face image folder, WebDataset, COCO, Parquet, edit triples."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT = "train"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture of a data set.

    Attributes:
        key: its number.
        image: encoded; as it was, where it was not edited.
        source: encoded; None = it does not go along.
        mask: PNG, 255 = what the edit was to repaint; None = there was none.
        metadata: of the row.
    """

    key: str
    image: bytes
    source: bytes | None
    mask: bytes | None
    metadata: dict[str, Any]

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """What there is, by its role: 'image', 'source', 'mask'."""
        yield "image", self.image
        if self.source is not None:
            yield "source", self.source
        if self.mask is not None:
            yield "mask", self.mask

    def edited(self) -> NDArray[np.bool_]:
        """H x W: the mask, else what differs from the source."""
        from overpaint.datasets.measure import changed_pixels

        image = Image.open(io.BytesIO(self.image)).convert("RGB")
        if self.mask is not None:
            return np.asarray(Image.open(io.BytesIO(self.mask)).convert("L")) >= 128
        if self.source is not None:
            source = Image.open(io.BytesIO(self.source)).convert("RGB")
            if source.size == image.size:
                return changed_pixels(source, image)
        return np.zeros(image.size[::-1], bool)


def imagefolder(folder: Path, samples: Iterable[Sample], _shard: int) -> None:
    """Pictures and metadata.jsonl, as `datasets.load_dataset('imagefolder', …)` reads them.

    Columns: image, source, mask (where there are any) and the metadata.
    """
    split = folder / SPLIT
    lines = []
    for sample in samples:
        row: dict[str, Any] = {}
        for role, data in sample.pictures():
            name = f"{role}/{sample.key}{suffix(data)}"
            (split / role).mkdir(parents=True, exist_ok=True)
            (split / name).write_bytes(data)
            row["file_name" if role == "image" else f"{role}_file_name"] = name
        lines.append(row | sample.metadata)
    split.mkdir(exist_ok=True)
    _json_lines(split / "metadata.jsonl", _aligned(lines))


def triples(folder: Path, samples: Iterable[Sample], _shard: int) -> None:
    """Source, instruction and target, with MagicBrush's names, for training editors.

    Only edited pictures, and only where the source goes along.
    """
    split = folder / SPLIT
    split.mkdir()
    lines = []
    for sample in samples:
        if sample.source is None or sample.metadata["ending"] != "edited":
            continue
        row: dict[str, Any] = {"img_id": sample.metadata["source_name"], "turn_index": 1}
        roles = {"source": "source_img", "mask": "mask_img", "image": "target_img"}
        for role, data in sample.pictures():
            name = f"{roles[role]}/{sample.key}{suffix(data)}"
            (split / roles[role]).mkdir(exist_ok=True)
            (split / name).write_bytes(data)
            row[f"{roles[role]}_file_name"] = name
        lines.append(row | {"instruction": sample.metadata["prompt"]})
    _json_lines(split / "metadata.jsonl", _aligned(lines))


def webdataset(folder: Path, samples: Iterable[Sample], shard: int) -> None:
    """Tar files of KEY.png, KEY.source.png, KEY.mask.png and KEY.json."""
    for number, some in enumerate(_batched(samples, shard)):
        with tarfile.open(folder / f"{SPLIT}-{number:06d}.tar", "w") as tar:
            for sample in some:
                for role, data in sample.pictures():
                    role_name = "" if role == "image" else f".{role}"
                    _add(tar, f"{sample.key}{role_name}{suffix(data)}", data)
                _add(tar, f"{sample.key}.json", json.dumps(sample.metadata).encode())


def parquet(folder: Path, samples: Iterable[Sample], shard: int) -> None:
    """Parquet files with pictures as Hugging Face's Image feature has them, in a folder alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    split = folder / SPLIT
    split.mkdir()
    for number, some in enumerate(_batched(samples, shard)):
        columns: dict[str, Any] = {}
        for role in ("image", "source", "mask"):
            values = [_cell(sample, role) for sample in some]
            if any(value is not None for value in values):
                columns[role] = pa.array(values, picture)
        keys = list(dict.fromkeys(key for sample in some for key in sample.metadata))
        columns |= {
            key: _column([sample.metadata.get(key) for sample in some], key) for key in keys
        }
        table = pa.table(columns)
        features = {role: {"_type": "Image"} for role in ("image", "source", "mask")}
        known = {key: features[key] for key in columns if key in features}
        rest = {key: _value(table.schema.field(key).type) for key in columns if key not in features}
        about = json.dumps({"info": {"features": known | rest}})
        table = table.replace_schema_metadata({"huggingface": about})
        pq.write_table(table, split / f"{number:06d}.parquet", row_group_size=100)


def coco(folder: Path, samples: Iterable[Sample], _shard: int) -> None:
    """Pictures and annotations.json: the edited area of each, as run lengths, by cell."""
    (folder / "images").mkdir()
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for number, sample in enumerate(samples, 1):
        name = f"{sample.key}{suffix(sample.image)}"
        (folder / "images" / name).write_bytes(sample.image)
        metadata = sample.metadata
        height, width = metadata["height"], metadata["width"]
        pictures.append(
            {"id": number, "file_name": name, "width": width, "height": height}
            | {key: metadata[key] for key in ("prompt", "source_name", "licence", "seed")}
        )
        edited = sample.edited()
        if not edited.any():
            continue
        label = _cell_name(metadata)
        category = categories.setdefault(label, len(categories) + 1)
        annotations.append(_annotation(len(annotations) + 1, number, category, edited))
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    document = {"images": pictures, "annotations": annotations, "categories": listed}
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")


def suffix(data: bytes) -> str:
    """Of an encoded picture, by its first bytes."""
    if data.startswith(b"\xff\xd8"):
        return ".jpg"
    return ".webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ".png"


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


def _annotation(number: int, image: int, category: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 1,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
    }


def _cell_name(metadata: dict[str, Any]) -> str:
    axes = [str(value) for key, value in metadata.items() if key.startswith("axis_")]
    return " ".join(axes) or "edited"


def _cell(sample: Sample, role: str) -> dict[str, Any] | None:
    data = dict(sample.pictures()).get(role)
    if data is None:
        return None
    return {"bytes": data, "path": f"{sample.key}-{role}{suffix(data)}"}


def _column(values: list[Any], key: str) -> Any:
    """An array of the same type in every file, whether values are there or not."""
    import pyarrow as pa

    known = {"flagged": pa.bool_(), "shows_score": pa.float64()}
    is_empty = all(value is None for value in values)
    return pa.array(values, known.get(key, pa.string() if is_empty else None))


def _value(kind: Any) -> dict[str, str]:
    """Hugging Face's name of a column's type."""
    names = {"double": "float64", "large_string": "string"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


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

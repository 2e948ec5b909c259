"""Pictures from folders, JSON lines, Parquet, Hugging Face folders, WebDataset tars and COCO.

Nothing is decoded here: an `Item` says where its bytes lie. Files of strangers may name files, so
what they name must stay inside the source's own folder.
"""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.codecs.formats import SUFFIXES
from overpaint.datasets.places import Annotated, InFile, InParquet, InTar, Item, Nowhere
from overpaint.datasets.recipes.sections import Blank, SourceSection

LONGEST_LINE = 1_000_000
MOST_FIELDS = 64
LONGEST_FIELD = 4000


def items(sources: Sequence[SourceSection]) -> Iterator[Item]:
    """All pictures of all sources, in an order that does not change from run to run.

    Raises:
        InvalidRequest: a source is not there or cannot be read; a row names a file outside it.
    """
    for number, source in enumerate(sources):
        field = f"recipe.sources.{number}.{source.kind}"
        readable = _READERS[source.kind](source, field)
        prefix = f"{number}:" if len(sources) > 1 else ""
        for item in islice(readable, source.limit):
            yield Item(
                prefix + item.name, item.image, _mask(source, item), item.fields, source.licence
            )


def _mask(source: SourceSection, item: Item) -> Any:
    if item.mask is not None or source.masks is None:
        return item.mask
    path = (source.masks / item.name).with_suffix(".png")
    return InFile(path) if path.is_file() else None


def _folder(source: SourceSection, field: str) -> Iterator[Item]:
    folder = _existing(source.folder, field, Path.is_dir)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            yield Item(path.relative_to(folder).as_posix(), InFile(path), None, {})


def _blank(source: SourceSection, field: str) -> Iterator[Item]:
    section = source.blank
    assert isinstance(section, Blank), field
    name = f"blank-{section.width}x{section.height}-{section.colour[1:]}"
    yield Item(name, Nowhere(section.width, section.height, section.colour), None, {})


def _jsonl(source: SourceSection, field: str) -> Iterator[Item]:
    file = _existing(source.jsonl, field, Path.is_file)
    root = source.images or file.parent
    for number, row in _json_lines(file, field):
        name = f"{file.name}#{number}"
        yield _row_item(source, row, root, name, field)


def _imagefolder(source: SourceSection, field: str) -> Iterator[Item]:
    folder = _existing(source.imagefolder, field, Path.is_dir)
    metadata = sorted(folder.rglob("metadata.*"))
    if not metadata:
        raise InvalidRequest(
            f"{folder} has no metadata.jsonl, metadata.csv or metadata.parquet; for plain "
            "pictures use folder",
            field=field,
        )
    for file in metadata:
        place = file.parent.relative_to(folder).as_posix()
        for row in _table(file, field):
            image = row.pop("file_name", None)
            if image is None:
                raise InvalidRequest(f"a row of {file} has no file_name", field=field)
            mask = row.pop("mask_file_name", None)
            name = image if place == "." else f"{place}/{image}"
            yield Item(
                str(name),
                InFile(_inside(file.parent, image, field)),
                InFile(_inside(file.parent, mask, field)) if mask else None,
                _fields(row),
            )


def _parquet(source: SourceSection, field: str) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _existing(source.parquet, field, Path.is_file)
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{path} cannot be read as Parquet: {error}", field=field) from error
    names = file.schema_arrow.names
    if source.image_column not in names:
        raise InvalidRequest(
            f"{path} has no column '{source.image_column}', only {', '.join(names)}; name it with "
            "image_column",
            field=field,
        )
    pictures = [name for name in (source.image_column, source.mask_column) if name in names]
    held = {name for name in pictures if not pa.types.is_string(file.schema_arrow.field(name).type)}
    rest = [name for name in names if name not in held]
    number = 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=rest).to_pylist() if rest else None
        for row in range(file.metadata.row_group(group).num_rows):
            values = dict(rows[row]) if rows is not None else {}
            values |= {name: InParquet(path, group, row, name) for name in held}
            root = source.images or path.parent
            yield _row_item(source, values, root, f"{path.name}#{number}", field)
            number += 1


def _webdataset(source: SourceSection, field: str) -> Iterator[Item]:
    pattern = source.webdataset
    assert pattern is not None
    shards = sorted(pattern.parent.glob(pattern.name))
    if not shards:
        raise InvalidRequest(f"{pattern} matches no file", field=field)
    for shard in shards:
        try:
            yield from _shard(shard)
        except (OSError, tarfile.TarError) as error:
            raise InvalidRequest(f"{shard} cannot be read as tar: {error}", field=field) from error


def _shard(shard: Path) -> Iterator[Item]:
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
    image = next((members[each] for each in _in_tar("") if each in members), None)
    if key is None or image is None:
        return
    mask = next((members[each] for each in _in_tar("mask.") if each in members), None)
    fields: dict[str, str] = {}
    if "json" in members and members["json"].length <= LONGEST_LINE:
        value = _plain_json(members["json"].read())
        fields = _fields(value) if isinstance(value, dict) else {}
    for suffix in ("txt", "cls"):
        if suffix in members and members[suffix].length <= LONGEST_FIELD:
            fields[suffix] = members[suffix].read().decode("utf-8", "replace")
    yield Item(f"{shard.name}/{key}", image, mask, fields)


def _in_tar(prefix: str) -> list[str]:
    return [prefix + suffix[1:] for suffix in SUFFIXES]


def _coco(source: SourceSection, field: str) -> Iterator[Item]:
    path = _existing(source.coco, field, Path.is_file)
    root = source.images or path.parent
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = {each["id"]: str(each["name"]) for each in document.get("categories", ())}
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for each in document["annotations"]:
            by_image.setdefault(each["image_id"], []).append(each)
        for image in document["images"]:
            annotations = by_image.get(image["id"], [])
            labels = {names.get(each["category_id"], "") for each in annotations}
            masks = [
                {key: each[key] for key in ("bbox", "segmentation") if key in each}
                for each in annotations
                if not source.categories or names.get(each["category_id"]) in source.categories
            ]
            fields = _fields({key: image[key] for key in image if key not in ("id", "file_name")})
            yield Item(
                str(image["file_name"]),
                InFile(_inside(root, image["file_name"], field)),
                Annotated(json.dumps(masks)),
                fields | {"labels": ", ".join(sorted(labels))},
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(
            f"{path} is no COCO annotation file: {error!r}", field=field
        ) from error


def _row_item(
    source: SourceSection, row: dict[str, Any], root: Path, name: str, field: str
) -> Item:
    image, mask = row.pop(source.image_column, None), row.pop(source.mask_column, None)
    if image is None:
        raise InvalidRequest(
            f"{name} has no '{source.image_column}'; name the column with image_column",
            field=field,
        )
    return Item(
        name,
        _place(image, root, field),
        None if mask is None else _place(mask, root, field),
        _fields(row),
    )


def _place(value: Any, root: Path, field: str) -> Any:
    return value if isinstance(value, InParquet) else InFile(_inside(root, value, field))


def _inside(root: Path, name: Any, field: str) -> Path:
    path = (root / str(name)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InvalidRequest(
            f"'{name}' lies outside {root}; move it there, or name its folder with images",
            field=field,
        )
    return path


def _fields(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row says in words and numbers, within limits."""
    plain = {str(key): value for key, value in row.items() if isinstance(value, str | int | float)}
    return {key: str(plain[key])[:LONGEST_FIELD] for key in list(plain)[:MOST_FIELDS]}


def _table(file: Path, field: str) -> Iterator[dict[str, Any]]:
    if file.suffix == ".jsonl":
        for _, row in _json_lines(file, field):
            yield row
    elif file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as lines:
            yield from csv.DictReader(lines)
    elif file.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


def _json_lines(file: Path, field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_LINE:
                raise InvalidRequest(
                    f"line {number} of {file} has more than {LONGEST_LINE:,} bytes", field=field
                )
            if not line.strip():
                continue
            row = _plain_json(line)
            if not isinstance(row, dict):
                raise InvalidRequest(f"line {number} of {file} is no JSON object", field=field)
            yield number, row


def _plain_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _existing(path: Path | None, field: str, check: Callable[[Path], bool]) -> Path:
    assert path is not None
    if not check(path):
        raise InvalidRequest(f"{path} is not there", field=field)
    return path


_READERS: dict[str, Callable[[SourceSection, str], Iterator[Item]]] = {
    "folder": _folder,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "imagefolder": _imagefolder,
    "webdataset": _webdataset,
    "coco": _coco,
    "blank": _blank,
}

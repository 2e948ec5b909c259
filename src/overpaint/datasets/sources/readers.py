"""Pictures from folders, JSON lines, Parquet, Hugging Face folders, WebDataset tars and COCO.

Nothing is decoded here: an `Item` says where its bytes lie. Files of strangers may name files, so
what they name must stay inside the source's own folder.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.codecs.formats import SUFFIXES
from overpaint.datasets.places import (
    InFile,
    InParquet,
    Item,
    LinkedAway,
    Nowhere,
    rows_without,
)
from overpaint.datasets.recipes.sections import Blank, SourceSection
from overpaint.datasets.sources import coco, patterns, tables, tars


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
            yield replace(
                item, name=prefix + item.name, mask=_mask(source, item), licence=source.licence
            )


def _mask(source: SourceSection, item: Item) -> Any:
    if item.mask is not None or source.masks is None:
        return item.mask
    path = (source.masks / item.name).with_suffix(".png")
    return InFile(path) if path.is_file() else None


def _folder(source: SourceSection, field: str) -> Iterator[Item]:
    yield from _pictures(_existing(source.folder, field, Path.is_dir))


def _pictures(folder: Path) -> Iterator[Item]:
    """Picture files of a folder and its subfolders."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink()):
            row = _caption(path)
            is_own = path.exists() and path.resolve().is_relative_to(folder.resolve())
            yield Item(
                path.relative_to(folder).as_posix(),
                InFile(path) if is_own else LinkedAway(path),
                fields=tables.fields(row),
                knowledge=tables.knowledge(row),
            )


def _caption(picture: Path) -> dict[str, str]:
    """The words of `x.txt` or `x.caption` beside `x.jpg`."""
    for path in map(picture.with_suffix, (".txt", ".caption")):
        if path.is_file() and path.stat().st_size <= tables.LONGEST_LINE:
            return {"caption": path.read_text(encoding="utf-8", errors="replace").strip()}
    return {}


def _blank(source: SourceSection, field: str) -> Iterator[Item]:
    section = source.blank
    assert isinstance(section, Blank), field
    name = f"blank-{section.width}x{section.height}-{section.colour[1:]}"
    yield Item(name, Nowhere(section.width, section.height, section.colour))


def _jsonl(source: SourceSection, field: str) -> Iterator[Item]:
    file = _existing(source.jsonl, field, Path.is_file)
    root = source.images or file.parent
    for number, row in tables.json_lines(file, field):
        name = f"{file.name}#{number}"
        yield _row_item(source, row, root, name, field)


def _imagefolder(source: SourceSection, field: str) -> Iterator[Item]:
    folder = _existing(source.imagefolder, field, Path.is_dir)
    metadata = sorted(folder.rglob("metadata.*"))
    if not metadata:
        yield from _by_class(source, folder, field)
        return
    for file in metadata:
        place = file.parent.relative_to(folder).as_posix()
        for row in tables.rows(file, field):
            image = row.pop("file_name", None)
            if image is None:
                raise InvalidRequest(f"a row of {file} has no file_name", field=field)
            mask = row.pop("mask_file_name", None)
            name = image if place == "." else f"{place}/{image}"
            yield Item(
                str(name),
                InFile(_inside(file.parent, image, field)),
                InFile(_inside(file.parent, mask, field)) if mask else None,
                tables.fields(row),
                knowledge=tables.knowledge(row),
            )


def _by_class(source: SourceSection, folder: Path, field: str) -> Iterator[Item]:
    """Pictures of an image folder without metadata: each folder is a class, as for its readers.

    Raises:
        InvalidRequest: pictures lie in the folder itself, so there are no classes.
    """
    count = 0
    for item in _pictures(folder):
        *parents, label = Path(item.name).parent.parts or ("",)
        if not label:
            raise InvalidRequest(
                f"{folder} has neither metadata.jsonl, metadata.csv or metadata.parquet nor a "
                "folder for each class; for plain pictures use folder",
                field=field,
            )
        row = {**item.fields, "label": label} | ({"split": parents[0]} if parents else {})
        count += 1
        yield replace(item, fields=row, knowledge=tables.knowledge(row))
    if not count:
        raise InvalidRequest(f"{folder} has no pictures", field=field)


def _parquet(source: SourceSection, field: str) -> Iterator[Item]:
    assert source.parquet is not None
    paths = patterns.files(source.parquet, ".parquet", field)
    for path in paths:
        name = path.name
        if source.parquet.is_dir():
            name = path.relative_to(source.parquet).as_posix()
        yield from _parquet_file(source, path, name, field)


def _parquet_file(source: SourceSection, path: Path, title: str, field: str) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

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
    binary_columns = {
        name for name in pictures if not pa.types.is_string(file.schema_arrow.field(name).type)
    }
    rest = [name for name in names if name not in binary_columns]
    classes = _class_names(file.schema_arrow.metadata or {})
    number = 0
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=rest).to_pylist() if rest else None
        # A picture may have no mask, as those that a run left as they were.
        has_masks = source.mask_column in binary_columns
        maskless = rows_without(path, group, source.mask_column) if has_masks else set()
        for row in range(file.metadata.row_group(group).num_rows):
            values = dict(rows[row]) if rows is not None else {}
            values |= _named_classes(values, classes)
            here = binary_columns - ({source.mask_column} if row in maskless else set())
            values |= {name: InParquet(path, group, row, name) for name in here}
            root = source.images or path.parent
            yield _row_item(source, values, root, f"{title}#{number}", field)
            number += 1


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Names of the classes of integer columns, where Hugging Face's metadata has them."""
    about = tables.parsed(metadata.get(b"huggingface", b"null"))
    features = about.get("info", {}).get("features", {}) if isinstance(about, dict) else {}
    return {
        name: list(map(str, feature["names"]))
        for name, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }


def _named_classes(values: Mapping[str, Any], classes: Mapping[str, list[str]]) -> dict[str, str]:
    """`label_name` beside each integer `label` whose classes have names."""
    return {
        f"{column}_name": names[values[column]]
        for column, names in classes.items()
        if isinstance(values.get(column), int) and 0 <= values[column] < len(names)
    }


def _webdataset(source: SourceSection, field: str) -> Iterator[Item]:
    assert source.webdataset is not None
    for shard in patterns.files(source.webdataset, ".tar", field):
        try:
            yield from tars.samples(shard)
        except (OSError, tarfile.TarError) as error:
            raise InvalidRequest(f"{shard} cannot be read as tar: {error}", field=field) from error


def _coco(source: SourceSection, field: str) -> Iterator[Item]:
    path = _existing(source.coco, field, Path.is_file)
    root = source.images or path.parent
    yield from coco.pictures(path, source, lambda name: _inside(root, name, field), field)


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
        tables.fields(row),
        knowledge=tables.knowledge(row),
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


def _existing(path: Path | None, field: str, check: Callable[[Path], bool]) -> Path:
    assert path is not None
    if not check(path):
        what = "is a folder; name a file in it" if path.is_dir() else "is not there"
        what = "is a file; name its folder" if path.is_file() else what
        raise InvalidRequest(f"{path} {what}", field=field)
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

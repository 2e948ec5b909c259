"""From files to units, one at a time: tables of rows, manifests, folders of pictures.

| input | a unit is |
| --- | --- |
| `NAME.csv`, or a folder with such files | a row of Azure ML's contract (`rows.py`) |
| `NAME.jsonl` | a line: an object with the same names |
| a folder of pictures | a picture `x.jpg`, with the mask of its name in the folder of masks, else \
`x_mask.png` beside it, and the prompt in `x.txt` beside it, else the one for all |

In tables and manifests a picture is base64, or a path that starts at the table's folder. An input
that cannot be read is a unit that fails when its turn comes; the others go on.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from overpaint.core.errors import InvalidMask, InvalidRequest
from overpaint.core.imaging import masks
from overpaint.core.imaging.codecs.formats import SUFFIXES as PICTURES
from overpaint.core.types import PARTS, EditRequest
from overpaint.engine import intake
from overpaint.jobs import inputs, rows, tables
from overpaint.jobs.inputs import Fingerprints, InputFile
from overpaint.jobs.output.encoding import PictureEncoding
from overpaint.jobs.rows import Row
from overpaint.jobs.shard import Shard
from overpaint.jobs.tables import Record
from overpaint.jobs.units import Unit, broken, derive_seed, digest, identify, identity

MASK = "_mask"
TABLES = (".csv",)
MANIFESTS = (".jsonl", ".ndjson")

MAX_LINE = 2 * tables.MAX_CELL + 2**20
"""Bytes of a manifest's line: some pictures and some words."""

LONGEST_PATH = 4096


@dataclass(frozen=True, kw_only=True)
class UnitDefaults:
    """What holds for every unit that does not say otherwise.

    Attributes:
        parts: of units without their own, by name; pictures and masks are files. Options are
            taken one by one, so a unit that has some still has the others from here.
        seed: units without a seed get one derived from it and from what they are.
        mask_dir: folder with a mask for each picture of a folder, of its name with any suffix.
        skip: folder that is not an input, though it may lie in one.
        encoding: how the pictures are written. It counts in a unit's id where it is not PNG.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    mask_dir: Path | None = None
    skip: Path | None = None
    encoding: PictureEncoding = field(default_factory=PictureEncoding)


class Manifest:
    """The units of an input, in its order; files of a folder by name.

    Args:
        source: a file or a folder, see above.
        defaults: what holds for every unit.
        fingerprints: of the input's files.

    Raises:
        InvalidRequest: there is no such input, or nothing in it that could be one; or a default
            cannot be used.
    """

    def __init__(
        self, source: Path, defaults: UnitDefaults, fingerprints: Fingerprints | None = None
    ) -> None:
        self.source, self.defaults = source, defaults
        self._fingerprints = fingerprints or Fingerprints()
        self._parts = _common(defaults)
        if not source.exists():
            raise InvalidRequest(f"{source}: no such file or folder", field="input")
        if source.is_file() and source.suffix.lower() not in (*TABLES, *MANIFESTS):
            raise InvalidRequest(
                f"{source} ends in '{source.suffix}'; give a {', '.join((*TABLES, *MANIFESTS))} "
                "file, a folder of them, or a folder of pictures",
                field="input",
            )
        tables_ = (*TABLES, *MANIFESTS)
        self.suffixes = tables_ if source.is_file() or any(self._files(tables_)) else PICTURES
        if not any(self._files(self.suffixes)):
            raise InvalidRequest(
                f"{source} has neither pictures ({', '.join(PICTURES)}) nor tables", field="input"
            )
        if self.has_tables and defaults.mask_dir is not None:
            raise InvalidRequest(
                "tables name their masks themselves; leave it out", field="mask_dir"
            )
        if defaults.mask_dir is not None and not defaults.mask_dir.is_dir():
            raise InvalidRequest(f"{defaults.mask_dir} is not a folder", field="mask_dir")

    @property
    def has_masks(self) -> bool:
        """Whether pictures of the folder have masks of their own."""
        if self.defaults.mask_dir is not None:
            return True
        return not self.has_tables and any(map(_mask_beside, self._files(self.suffixes)))

    @property
    def has_tables(self) -> bool:
        """Whether units are rows, not pictures."""
        return self.suffixes != PICTURES

    def count(self) -> int:
        """How many units there are; reads tables through, but no picture."""
        return sum(_count(file) for file in self._files(self.suffixes))

    def units(self, model: Mapping[str, Any], shard: Shard | None = None) -> Iterator[Unit]:
        """The units. Only the one that is handed over is in memory, beside all ids.

        Args:
            model: `units.model_key` of the model; part of every unit's id.
            shard: only those of this share of the work; files of the others are not read.
        """
        twins: Counter[str] = Counter()
        for source, row, extra in self._rows():
            if isinstance(row, InvalidRequest):
                unit = broken(source, row, extra=extra, model=model)
                if shard is None or shard.has(unit.id):
                    yield unit
                continue
            parts = {**self._parts, **row.parts}
            parts["prompt"] = row.prompt or self._parts.get("prompt", "")
            # Rows that are equal in everything are of one share, which counts them.
            if shard is None or shard.has(_outline(parts)):
                yield self._unit(source, row, parts, extra, model, twins)

    def _rows(self) -> Iterator[tuple[str, Row | InvalidRequest, Mapping[str, Any]]]:
        """Where each row comes from, the row, and what the tables say of it beside the outcome."""
        for file in self._files(self.suffixes):
            name = file.relative_to(self.source).as_posix() if file != self.source else file.name
            if not self.has_tables:
                yield name, self._of_picture(file), {"image": name}
                continue
            for number, record in _records(file):
                where = name if number is None else f"{name}#{number}"
                if isinstance(record, InvalidRequest):
                    yield where, record, {}
                else:
                    row = self._of_record(record, number or 0, file.parent)
                    yield where, row, _lineage(record, file.parent)

    def _unit(
        self,
        source: str,
        row: Row,
        parts: dict[str, Any],
        extra: Mapping[str, Any],
        model: Mapping[str, Any],
        twins: Counter[str],
    ) -> Unit:
        """The unit of a row; rows that are equal in everything are told apart by counting them."""
        try:
            parts = {name: self._hashed(value, name) for name, value in parts.items()}
        except InvalidRequest as error:
            error = row.at(error) if self.has_tables else error
            return broken(source, error, prompt=parts["prompt"], extra=extra, model=model)
        key = identity(parts)
        same = identify(**key, seed=parts.get("seed"))
        twins[same] += 1
        key["twin"] = twins[same]
        if "seed" not in parts:
            parts["seed"] = derive_seed(self.defaults.seed, **key)
        image = parts["image"]
        encoding = self.defaults.encoding
        return Unit(
            id=identify(**key, seed=parts["seed"], model=model, **encoding.identity()),
            source=source,
            prompt=parts["prompt"],
            seed=parts["seed"],
            load=partial(_load, row, parts, in_table=self.has_tables),
            suffix=encoding.suffix(image if isinstance(image, bytes) else image.path),
            extra=extra,
        )

    def _hashed(self, value: Any, name: str) -> Any:
        if isinstance(value, InputFile):
            return self._fingerprints.of(value, name)
        if isinstance(value, tuple):
            return tuple(self._hashed(each, name) for each in value)
        return value

    def _of_record(self, record: Record, number: int, folder: Path) -> Row | InvalidRequest:
        read = partial(_file_or_text, folder)
        try:
            return rows.parse(record, number, self._parts.get("options"), read=read, carries=True)
        except InvalidRequest as error:
            return error

    def _of_picture(self, file: Path) -> Row | InvalidRequest:
        mask_dir = self.defaults.mask_dir
        try:
            values: dict[str, Any] = {"image": inputs.input_file(file, "image")}
            if mask_dir is not None:
                beside = _mask_of(file.relative_to(self.source), mask_dir)
                values["mask"] = inputs.input_file(beside, "mask")
            elif (other := _mask_beside(file)) is not None:
                values["mask"] = inputs.input_file(other, "mask")
            if (words := file.with_suffix(".txt")).is_file():
                values["prompt"] = _words(words)
            # Through the same checks as a row of a table.
            return rows.parse(values, 0, self._parts.get("options"))
        except InvalidRequest as error:
            return error

    def _files(self, suffixes: tuple[str, ...]) -> Iterator[Path]:
        """Files of the input with one of these suffixes, without hidden ones."""
        if self.source.is_file():
            yield self.source
            return
        no_input = {
            folder.resolve() for folder in (self.defaults.skip, self.defaults.mask_dir) if folder
        }
        for folder, below, names in os.walk(self.source):
            below[:] = sorted(
                name
                for name in below
                if not name.startswith(".") and Path(folder, name).resolve() not in no_input
            )
            for name in sorted(names):
                file = Path(folder, name)
                is_input = not name.startswith(".") and file.suffix.lower() in suffixes
                if is_input and not (suffixes == PICTURES and _is_mask(file)):
                    yield file


def _common(defaults: UnitDefaults) -> dict[str, Any]:
    """The parts that units have where they do not have their own, pictures as files' bytes."""
    own = ("image", "seed", *rows.LEFT_OUT)
    parts_by_name = {part.name: part for part in PARTS if part.name not in own}
    parts: dict[str, Any] = {}
    for name, value in defaults.parts.items():
        if name not in parts_by_name:
            raise InvalidRequest("it cannot be the same for all units", field=name)
        if value in (None, "", ()):
            continue
        if parts_by_name[name].kind == "pictures":
            parts[name] = tuple(inputs.input_file(Path(each), name).read(name) for each in value)
        else:
            is_file = parts_by_name[name].is_visual and not isinstance(value, bytes)
            parts[name] = inputs.input_file(Path(value), name).read(name) if is_file else value
    return parts


def _outline(parts: Mapping[str, Any]) -> str:
    """A key that rows share if they are equal in everything, made without reading a file."""
    sizes = {name: _sizes(value) for name, value in parts.items()}
    return identify(**sizes)


def _sizes(value: Any) -> Any:
    if isinstance(value, InputFile):
        return value.size
    if isinstance(value, tuple):
        return [_sizes(each) for each in value]
    return digest(value) if isinstance(value, bytes) else value


def _lineage(record: Record, folder: Path) -> dict[str, Any]:
    """Of a row, whether it can be read or not: its picture's file, and its own columns."""
    image, columns = record.get("image"), rows.own_columns(record)
    return {
        **({"image": image.strip()} if _path(folder, image) and isinstance(image, str) else {}),
        **({"columns": columns} if columns else {}),
    }


def _load(row: Row, parts: Mapping[str, Any], *, in_table: bool) -> EditRequest:
    """Decode a row's pictures; a table's mask of another size is stretched, as when it is served.

    Raises:
        InvalidRequest: a picture or a mask cannot be used.
    """
    try:
        request = intake.request_of(inputs.loaded(parts), fit_mask=in_table)
        for part in PARTS:
            mask = getattr(request, part.name)
            if part.kind == "mask" and mask is not None:
                masks.check_size(mask, request.image.size, field=part.name)
        return request
    except InvalidRequest as error:
        raise (row.at(error) if in_table else error) from error


def _path(folder: Path, cell: Any) -> Path | None:
    """The file that a cell names, whether it is there or not; None = it names none."""
    if not isinstance(cell, str) or len(cell) > LONGEST_PATH or "\0" in cell or "://" in cell:
        return None
    path = folder / cell.strip()
    try:
        names_file = path.suffix.lower() in PICTURES or (bool(cell.strip()) and path.is_file())
    except OSError:
        return None  # no path at all: too long for a name
    return path if names_file else None


def _file_or_text(folder: Path, value: Any, where: str) -> Any:
    """The file that a cell names; base64 and anything else stay as they are."""
    path = _path(folder, value)
    return value if path is None else inputs.input_file(path, where)


def _mask_of(name: Path, folder: Path) -> Path:
    candidates = [(folder / name).with_suffix(suffix) for suffix in PICTURES]
    for path in candidates:
        if path.is_file():
            return path
    raise InvalidMask(f"there is no mask {name.with_suffix('.png')} in {folder}", field="mask")


def _mask_beside(picture: Path) -> Path | None:
    """`x_mask.png` of `x.jpg`."""
    names = (picture.with_name(f"{picture.stem}{MASK}{suffix}") for suffix in PICTURES)
    return next((path for path in names if path.is_file()), None)


def _is_mask(file: Path) -> bool:
    """Whether it is the mask of a picture beside it."""
    if not file.stem.endswith(MASK):
        return False
    stem = file.stem.removesuffix(MASK)
    return any(file.with_name(f"{stem}{suffix}").is_file() for suffix in PICTURES)


def _words(file: Path) -> str:
    """The prompt in a text file.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidRequest(f"{file} cannot be read: {reason}", field="prompt") from error


def _records(file: Path) -> Iterator[tuple[int | None, Record | InvalidRequest]]:
    """Rows of a table or manifest with their numbers from 0; None = of the file as a whole."""
    try:
        if file.suffix.lower() in MANIFESTS:
            with file.open("rb") as lines:
                yield from enumerate(_from_lines(lines))
            return
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from enumerate(tables.from_csv(text))
    except InvalidRequest as error:
        yield None, error
    except OSError as error:
        yield None, InvalidRequest(f"{file} cannot be read: {error.strerror}", field="input")


def _from_lines(file: BinaryIO) -> Iterator[Record | InvalidRequest]:
    """Objects of a JSON Lines file; a line that is none does not keep the next from being read.

    Lines are counted from 1, blank ones too, as editors do; blank ones are not objects.
    """
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        where = f"line {number}"
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while rest := file.readline(MAX_LINE):
                if rest.endswith(b"\n"):
                    break
            yield InvalidRequest(f"it has more than {MAX_LINE} bytes", field=where)
        elif line.strip():
            yield _object(line, where)


def _object(line: bytes, where: str) -> Record | InvalidRequest:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return InvalidRequest(f"it is not JSON: {error}", field=where)
    if not isinstance(value, dict):
        return InvalidRequest("it is not an object", field=where)
    return value


def _count(file: Path) -> int:
    """Units of a file."""
    suffix = file.suffix.lower()
    return 1 if suffix in PICTURES else sum(1 for _ in _records(file))

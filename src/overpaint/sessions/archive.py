"""A session as one file: a ZIP of its pictures, and a JSON file with everything else.

    session.json          name, times, head, turns
    pictures/SHA256.png   each picture, mask and reference once

What comes in is believed in nothing: names, sizes, hashes and the shape of the tree are checked,
every picture is decoded, thumbnails are made anew.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest
from overpaint.core.geometry import Size
from overpaint.core.imaging import images
from overpaint.core.imaging.codecs import headers
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.parts import Part
from overpaint.core.types import EditRequest
from overpaint.engine import intake
from overpaint.sessions.store import ANYONE, Store
from overpaint.sessions.types import INPUTS, ROOT, Session, Turn, fields_of, now

FORMAT = "overpaint-session"
VERSION = 1
INDEX = "session.json"
FIELD = "archive"

MAX_INDEX = 32 * 2**20
"""Bytes of `session.json`."""

_FOLDER, _SUFFIX = "pictures/", ".png"
_HEADER = 64
"""Bytes of a PNG that say its size."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may cost.

    Attributes:
        bytes: of all its files, unpacked.
        picture: of each picture.
        prompt: characters of a prompt.
    """

    bytes: int = 100 * 10**9
    picture: ImageLimits = field(default_factory=ImageLimits)
    prompt: int = 100_000


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: str
    version: int
    name: str
    created: str = Field(max_length=30)
    head: str
    tip: str
    turns: list[dict[str, JsonValue]] = Field(min_length=1)


_TURN = TypeAdapter(Turn)


def export(store: Store, session: Session, file: IO[bytes]) -> None:
    """Write a session as an archive.

    Raises:
        StoreUnavailable: a picture cannot be read.
    """
    turns = list(map(_without_output, session.turns))
    index = {
        "format": FORMAT,
        "version": VERSION,
        "name": session.name,
        "created": session.created,
        "head": session.head,
        "tip": session.tip,
        "turns": [turn.as_json() for turn in turns],
    }
    keys = dict.fromkeys(key for turn in turns for key in _carried(turn))
    # Pictures are compressed already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(INDEX, json.dumps(index, indent=1, ensure_ascii=False))
        for key in keys:
            archive.writestr(f"{_FOLDER}{key}{_SUFFIX}", store.pictures.get(key))


def load(
    store: Store,
    file: IO[bytes],
    check: Callable[[EditRequest], object],
    limits: ArchiveLimits | None = None,
    owner: str = ANYONE,
) -> Session:
    """Keep the session of an archive under a new id.

    Args:
        store: where.
        file: the archive.
        check: asked about every turn's words and pictures: the safety policy's `check_request`.
        limits: what it may cost.
        owner: whose the session will be.

    Raises:
        InvalidRequest: it is no such archive, or breaks a limit.
        ContentBlocked, SafetyUnavailable: from `check`.
    """
    limits = limits or ArchiveLimits()
    with _readable(), zipfile.ZipFile(file) as archive:
        index = _index(archive, limits)
        turns = _turns(index, limits)
        if len(turns) > store.limits.turns:
            raise _wrong(f"it has {len(turns)} turns, more than the {store.limits.turns} kept")
        reader = _Reader(archive, limits)
        turns = [_stored(store, turn, reader, check) for turn in turns]
    return store.insert(
        Session(
            id="",
            name=index.name,
            owner=owner,
            created=index.created,
            updated=now(),
            head=index.head,
            tip=index.tip,
            revision=1,
            turns=tuple(turns),
        )
    )


def pixels(file: IO[bytes], limits: ArchiveLimits) -> int:
    """Of the pictures and masks that `load` holds at the same time, from the headers of the files.

    Raises:
        InvalidRequest: it is no such archive, or breaks a limit.
    """
    with _readable(), zipfile.ZipFile(file) as archive:
        reader = _Reader(archive, limits)
        turns = _turns(_index(archive, limits), limits)
        return max(sum(map(reader.pixels, _carried(turn))) for turn in turns)


@contextmanager
def _readable() -> Iterator[None]:
    """What goes wrong within is the fault of the archive.

    Raises:
        InvalidRequest.
    """
    try:
        yield
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise _wrong(f"it is not a ZIP file that can be read ({error})") from error


class _Reader:
    """Files of an archive by the hash of their bytes."""

    def __init__(self, archive: zipfile.ZipFile, limits: ArchiveLimits) -> None:
        self.limits = limits
        self._archive = archive
        self._there = {info.filename: info for info in archive.infolist()}

    def get(self, key: str) -> bytes:
        """A file's bytes.

        Raises:
            InvalidRequest: it is missing, too large, or another one than its name says.
        """
        data = _read(self._archive, self._info(key), self.limits.picture.max_bytes)
        if hashlib.sha256(data).hexdigest() != key:
            raise _wrong(f"the picture {key[:12]}… is damaged")
        return data

    def pixels(self, key: str) -> int:
        """Pixels of a file, by its header; as many as there may be where that says nothing.

        Raises:
            InvalidRequest: it is missing.
        """
        with self._archive.open(self._info(key)) as file:
            header = headers.read(file.read(_HEADER))
        return self.limits.picture.max_pixels if header is None else header.pixels

    def _info(self, key: str) -> zipfile.ZipInfo:
        info = self._there.get(f"{_FOLDER}{key}{_SUFFIX}")
        if info is None:
            raise _wrong(f"the picture {key[:12]}… is missing in it")
        return info


def _inputs(turn: Turn) -> list[tuple[Part, Any]]:
    return [(part, turn.inputs[part.name]) for part in INPUTS if part.name in turn.inputs]


def _decoded(part: Part, value: Any, limits: ImageLimits, size: Size) -> Any:
    try:
        return intake.decoded(part, value, size, limits=limits)
    except InvalidRequest as error:
        raise type(error)(error.message, field=FIELD) from error


def _without_output(turn: Turn) -> Turn:
    """The turn without what its model made, which nobody has seen or judged: it stays here, and
    none is taken from elsewhere."""
    return replace(turn, model_output={})


def _carried(turn: Turn) -> list[str]:
    """The files of a turn that an archive has; thumbnails are made anew."""
    return [key for key in turn.files if key != turn.thumbnail]


def _index(archive: zipfile.ZipFile, limits: ArchiveLimits) -> _Index:
    infos = archive.infolist()
    size = sum(info.file_size for info in infos)
    if size > limits.bytes:
        raise _wrong(f"its files have {size:,} bytes, more than the limit of {limits.bytes:,}")
    entry = next((info for info in infos if info.filename == INDEX), None)
    if entry is None:
        raise _wrong(f"there is no {INDEX} in it")
    try:
        data = json.loads(_read(archive, entry, MAX_INDEX), parse_constant=_no_number)
        index = _Index.model_validate(data)
    except ValidationError as error:
        raise _wrong(f"its {INDEX} is damaged: {_first(error)}") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(f"its {INDEX} is damaged") from error
    if (index.format, index.version) != (FORMAT, VERSION):
        raise _wrong(f"it is '{index.format[:40]}' {index.version}, not '{FORMAT}' {VERSION}")
    return index


def _turns(index: _Index, limits: ArchiveLimits) -> list[Turn]:
    """The turns, checked to be a tree.

    Raises:
        InvalidRequest: they are not.
    """
    turns = []
    for number, data in enumerate(index.turns):
        try:
            turn = _TURN.validate_python(fields_of(data))
        except ValidationError as error:
            raise _wrong(f"turn {number} is damaged: {_first(error)}") from error
        except ValueError as error:
            raise _wrong(f"turn {number} is damaged: {error}") from error
        earlier = {str(each) for each in range(number)}
        rooted = turn.parent is None if number == 0 else turn.parent in earlier
        has_group = turn.candidate_of is None or turn.candidate_of in earlier
        is_original = (turn.kind == "original") == (turn.id == ROOT)
        if turn.id != str(number) or not rooted or not has_group or not is_original:
            raise _wrong(f"turn {number} has no place in the tree")
        words = [value for part, value in _inputs(turn) if part.kind == "text"]
        if max(map(len, (turn.prompt, *words))) > limits.prompt:
            raise _wrong(f"the words of turn {number} are longer than {limits.prompt} characters")
        turns.append(_without_output(turn))
    ids = {turn.id for turn in turns}
    if index.head not in ids or index.tip not in ids:
        raise _wrong("the turn where it stands is not in it")
    return turns


def _stored(
    store: Store, turn: Turn, reader: _Reader, check: Callable[[EditRequest], object]
) -> Turn:
    """The turn, its pictures looked at and kept."""
    may = reader.limits.picture

    def picture(key: str) -> Picture:
        return images.decode(reader.get(key), field=FIELD, limits=may)

    image = picture(turn.picture)
    size = turn.size_before(image.size)
    if min(size) < 1:
        raise _wrong(f"turn {turn.id} grew by more than its picture has")
    inputs: dict[str, Any] = {}
    for part, value in _inputs(turn):
        files = [reader.get(key) for key in turn.files_of(part)]
        if files:
            value = files if part.kind == "pictures" else files[0]
        inputs[part.name] = _decoded(part, value, may, size)
    check(EditRequest(image=image, prompt=turn.prompt, **inputs))
    if turn.touched is not None:
        images.decode_mask(reader.get(turn.touched), field=FIELD, limits=may)
    for key in _carried(turn):
        store.pictures.put(reader.get(key))
    return replace(turn, thumbnail=store.pictures.put_thumbnail(image))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    """A file, unpacked as far as it may be; what its header says is not believed."""
    with archive.open(info) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _wrong(f"{info.filename[:80]} is larger than {most:,} bytes")
    return data


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _first(error: ValidationError) -> str:
    first = plain_values.first_error(error)
    return f"{'.'.join(str(part) for part in first['loc'])[:80]}: {plain_values.complaint(first)}"


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(message, field=FIELD)

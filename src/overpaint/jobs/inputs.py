"""Files that rows name: read when their turn comes, hashed once.

A hash is remembered with the file's size, time and inode, so that a batch that is started again
does not read every input whole. A file that was written a moment ago is not remembered: another
write within the same tick of the clock would look the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging.codecs.formats import SUFFIXES, sniffed
from overpaint.core.imaging.codecs.reading import ImageLimits

MAX_FILE = ImageLimits().max_bytes

FINGERPRINTS = "inputs.sqlite"
"""File in an output folder that has the hashes of its inputs."""

SETTLED_SECONDS = 2.0
"""Age of a file from which its hash is remembered: file systems' clocks are coarse."""

_COMMIT_EVERY = 500
_CHUNK = 2**20
_TEXT_SAMPLE = 512


@dataclass(frozen=True)
class InputFile:
    """A file that a row names; not read yet.

    Attributes:
        path: the file.
        size: bytes.
        sha256: of its contents; '' = not known yet.
    """

    path: Path
    size: int
    sha256: str = ""

    def read(self, name: str) -> bytes:
        """Its contents.

        Args:
            name: of the field, in errors.

        Raises:
            InvalidImage: it cannot be read, is text under a picture's name, or is not what it was
                when it was hashed.
        """
        data = _contents(self.path, name)
        if self.sha256 and hashlib.sha256(data).hexdigest() != self.sha256:
            raise InvalidImage(
                f"{self.path} is not what it was when this batch first read it; start the batch "
                "again with --verify, and leave the inputs alone while it runs",
                field=name,
            )
        if self.path.suffix.lower() in SUFFIXES and sniffed(data) is None and _is_text(data):
            raise InvalidImage(f"{self.path} is a text file, not a picture", field=name)
        return data


def input_file(path: Path, name: str) -> InputFile:
    """The file at a path.

    Raises:
        InvalidImage: it is not there, or is too large.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        if error.errno == errno.ENOENT and path.is_symlink():
            raise InvalidImage(
                f"{path} is a link to {path.readlink()}, which is not there", field=name
            ) from error
        raise InvalidImage(f"{path} cannot be read: {error.strerror}", field=name) from error
    if size > MAX_FILE:
        raise _too_large(path, name)
    return InputFile(path, size)


@dataclass
class Fingerprints:
    """The hashes of input files, remembered in a file.

    Attributes:
        file: where to; made on the first hash. None = nothing is remembered.
        verify: read every file, whatever is remembered.
    """

    file: Path | None = None
    verify: bool = False
    _database: sqlite3.Connection | None = field(default=None, init=False)
    _changes: int = field(default=0, init=False)

    def of(self, file: InputFile, name: str) -> InputFile:
        """The file with its hash.

        Raises:
            InvalidImage: it cannot be read.
        """
        try:
            size = file.path.stat().st_size
            sha256 = self.sha256(file.path, lambda: _hash(file.path))
        except OSError as error:
            raise InvalidImage(
                f"{file.path} cannot be read: {error.strerror}", field=name
            ) from error
        return InputFile(file.path, size, sha256)

    def sha256(self, path: Path, compute: Callable[[], str], *, part: str = "") -> str:
        """The hash of a file or of a part of it, remembered or computed.

        Args:
            path: the file, whose size, time and inode decide whether the hash still holds.
            compute: reads the bytes and hashes them.
            part: names the part; '' = the whole file.

        Raises:
            OSError: the file is not there; and whatever `compute` raises.
        """
        before = path.stat()
        key, state = "\n".join(filter(None, (str(path.resolve()), part))), _state(before)
        sha256 = None if self.verify else self._recall(key, state)
        if sha256 is None:
            sha256 = compute()
            if time.time() - before.st_mtime > SETTLED_SECONDS:
                self._remember(key, state, sha256)
        return sha256

    def close(self) -> None:
        """Bring what is remembered to the disk."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.commit()
            self._database.close()
            self._database = None

    def _recall(self, key: str, state: str) -> str | None:
        if (database := self._connection()) is None:
            return None
        row = database.execute("SELECT state, sha256 FROM files WHERE path = ?", (key,)).fetchone()
        return row[1] if row is not None and row[0] == state else None

    def _remember(self, key: str, state: str, sha256: str) -> None:
        if (database := self._connection()) is None:
            return
        with suppress(sqlite3.Error):  # a full disk: it is hashed again next time
            database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, state, sha256))
            self._changes += 1
            if self._changes % _COMMIT_EVERY == 0:
                database.commit()

    def _connection(self) -> sqlite3.Connection | None:
        if self._database is None and self.file is not None:
            try:
                self._database = _database(self.file)
            except (sqlite3.Error, OSError):  # damaged, or a file system without locks
                with suppress(OSError):
                    self.file.unlink(missing_ok=True)
                self.file = None
        return self._database


def _database(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=10, check_same_thread=False)
    try:
        # It is a memory aid: what a power cut takes is hashed again.
        database.execute("PRAGMA synchronous = OFF")
        database.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, state TEXT, sha256 TEXT)"
        )
    except sqlite3.Error:
        database.close()
        raise
    return database


def loaded(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts with their files read.

    Raises:
        InvalidImage: as for `InputFile.read`.
    """
    return {name: _loaded(value, name) for name, value in parts.items()}


def _loaded(value: Any, name: str) -> Any:
    if isinstance(value, InputFile):
        return value.read(name)
    if isinstance(value, tuple):
        return tuple(_loaded(each, name) for each in value)
    return value


def _state(stat: os.stat_result) -> str:
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _contents(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidImage(f"{path} cannot be read: {error.strerror}", field=name) from error
    if len(data) > MAX_FILE:
        raise _too_large(path, name)
    return data


def _too_large(path: Path, name: str) -> InvalidImage:
    return InvalidImage(f"{path} is larger than {MAX_FILE / 2**20:.0f} MiB", field=name)


def _is_text(data: bytes) -> bool:
    sample = data[:_TEXT_SAMPLE]
    return bool(sample) and b"\0" not in sample and sample.isascii()

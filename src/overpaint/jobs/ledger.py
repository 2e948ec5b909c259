"""What was done, one line of JSON each, so that a killed run goes on where it stopped.

Lines are only ever appended, and each is on the disk before the next unit counts as done. The last
line of a unit is the one that holds. A line that a kill or a power cut tore is not counted: its
unit is made again. In memory there is a place in the file for each unit, nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, get_args

from overpaint.core.errors import OutputError

if sys.platform != "win32":
    import fcntl

Status = Literal["done", "failed", "blocked", "rejected"]
"""done; failed: with an error; blocked: by the safety policy; rejected: made, and found bad."""

STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What became of a unit: its lineage.

    Attributes:
        id: of the unit.
        status: see `Status`.
        source, prompt, seed, extra: as in the unit.
        code: of the error (`invalid_mask`); '' where it is done.
        reason: one sentence; '' where it is done.
        warnings: of the result, one sentence each.
        attempts: how often it was tried to the end, this one included.
        picture: file of the result, relative to the ledger's folder.
        flagged: whether the safety policy flagged the result; None = it was not checked.
        recipe: makes the picture again.
        timings: seconds by stage.
        finished: seconds since 1970.
    """

    id: str
    status: Status
    source: str
    prompt: str = ""
    seed: int | None = None
    code: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    attempts: int = 1
    picture: str | None = None
    flagged: bool | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    finished: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> LedgerEntry:
        """An entry from plain data, as JSON has it; fields of later versions are left aside."""
        values = {name: data[name] for name in _NAMES if name in data}
        return cls(**{**values, "warnings": tuple(data.get("warnings", ()))})


class _Place(NamedTuple):
    """A unit's last line."""

    offset: int
    status: Status
    attempts: int


class Ledger:
    """The ledger of one output folder; one process at a time has it.

    Args:
        path: file; made where it is missing, its folder too.

    Raises:
        OutputError: it cannot be written, or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, _Place] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _lock(self._file, path)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Units that came to an end, one way or another."""
        return len(self._places)

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    @property
    def ids(self) -> Collection[str]:
        """Ids of the units that came to an end."""
        return self._places.keys()

    def status(self, unit: str) -> Status | None:
        """What became of a unit; None = it is not done yet."""
        place = self._places.get(unit)
        return None if place is None else place.status

    def attempts(self, unit: str) -> int:
        """How often a unit was tried to the end."""
        place = self._places.get(unit)
        return 0 if place is None else place.attempts

    def get(self, unit: str) -> LedgerEntry | None:
        """The lineage of a unit, read from the file; None = it is not done yet."""
        place = self._places.get(unit)
        if place is None:
            return None
        self._file.seek(place.offset)
        return _parse(self._file.readline())

    def absorb(self, path: Path) -> None:
        """Take in another ledger's entries: of a share of the work, or of the whole.

        If the ends of one unit differ, the one with more attempts holds, then the other ledger's.

        Raises:
            OutputError: the disk is full, or another run is writing to that ledger.
        """
        if is_held(path):
            raise OutputError(f"another run is writing to {path}; wait for it", field="output")
        for entry in entries(path):
            if not self._holds(entry):
                self.append(entry, to_disk=False)
        self._sync()

    def _holds(self, entry: LedgerEntry) -> bool:
        own = self.get(entry.id)
        return own is not None and (own == entry or own.attempts > entry.attempts)

    def append(self, entry: LedgerEntry, *, to_disk: bool = True) -> None:
        """Add a line; it is on the disk when this returns, unless that can wait.

        Raises:
            OutputError: the disk is full.
        """
        offset = self._write(_line(entry), to_disk=to_disk)
        self._places[entry.id] = _Place(offset, entry.status, entry.attempts)

    def _read(self) -> None:
        self._file.seek(0)
        offset, line = 0, b""
        for line in self._file:
            if (entry := _parse(line)) is not None:
                self._places[entry.id] = _Place(offset, entry.status, entry.attempts)
            offset += len(line)
        if line and not line.endswith(b"\n"):
            # Torn: what is appended next must not be glued to it.
            self._write(b"\n")

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _write(self, line: bytes, *, to_disk: bool = True) -> int:
        """Bring a line to the disk, whole or not at all; where it begins.

        Past the file's own buffer: what a full disk did not take would be tried again on closing.
        """
        descriptor, rest = self._file.fileno(), memoryview(line)
        offset = self._file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if to_disk:
                os.fsync(descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(descriptor, offset)
            raise _unwritable(self.path, error) from error
        return offset


def _line(entry: LedgerEntry) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> LedgerEntry | None:
    """The entry of a line; None where it is torn or of another version."""
    try:
        data = json.loads(line)
        entry = LedgerEntry.of(data)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return entry if entry.status in STATUSES else None


def entries(path: Path) -> Iterator[LedgerEntry]:
    """The lines of a ledger, also while another process writes to it."""
    try:
        with path.open("rb") as file:
            yield from (entry for line in file if (entry := _parse(line)) is not None)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}", field="status") from error


def is_held(path: Path) -> bool:
    """Whether a process has that ledger now."""
    try:
        with path.open("rb") as file:
            _lock(file, path, shared=True)
    except (OSError, OutputError):
        return True
    return False


_NAMES = tuple(each.name for each in fields(LedgerEntry))


def _lock(file: BinaryIO, path: Path, *, shared: bool = False) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"another run is writing to {path.parent}; wait for it or choose another folder",
                field="output",
            ) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror}", field="output")

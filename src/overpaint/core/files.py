"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from overpaint.core.errors import OutputError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LEFTOVER = ".overpaint-"
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


def atomic_write(path: str | os.PathLike[str], data: bytes, *, field: str = "output") -> None:
    """Write `data` to `path`, so that the file is either complete or was never touched.

    Raises:
        OutputError: as for `atomic_open`.
    """
    with atomic_open(path, field=field) as file:
        file.write(data)


@contextmanager
def atomic_open(path: str | os.PathLike[str], *, field: str = "output") -> Iterator[BinaryIO]:
    """A file to write `path` with, so that it is either complete or was never touched.

    The bytes go to a temporary name in the same folder, to the disk, and then take their name. A
    link is followed. Nothing is left behind when it fails or is interrupted, unless the process is
    killed; `remove_leftovers` is for that.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full, `path` is a folder.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_LEFTOVER}{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(_explain(Path(path), error), field=field) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes; nobody may be writing there."""
    for temporary in folder.glob(f"{_LEFTOVER}*.tmp"):
        temporary.unlink(missing_ok=True)


def _explain(path: Path, error: OSError) -> str:
    folder = path.parent
    if error.errno in _DISK_FULL:
        return f"The disk is full; {path} was not written. Free some space or write elsewhere."
    if error.errno in _NOT_WRITABLE:
        return f"{folder} is not writable; {path.name} was not written. Choose another folder."
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"{folder} is not a folder; create it before writing {path.name} there."
    if error.errno == errno.EISDIR:
        return f"{path} is a folder; add a file name to it."
    return f"{path} cannot be written: {error.strerror}. Choose another place."

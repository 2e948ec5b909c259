"""The files that an assistant may read and write: those of one folder, nothing outside of it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from overpaint.core.errors import InvalidImage, InvalidRequest, InvalidSettings, OutputError
from overpaint.core.files import atomic_write
from overpaint.core.imaging import images

_PLAIN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
"""A pipe must not delay the reader, and nobody may swap a link in."""


@dataclass(frozen=True)
class Folder:
    """Reads and writes pictures by their names below a folder.

    Attributes:
        root: without links in it.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> Folder:
        """A folder that is there.

        Raises:
            InvalidSettings: it is not.
        """
        if not path.is_dir():
            raise InvalidSettings(f"'{path}' is not a folder", field="folder")
        return cls(path.resolve())

    def read(self, name: str, field: str, max_bytes: int) -> bytes:
        """A file's bytes.

        Args:
            name: relative to the folder.
            field: name of the field in errors.
            max_bytes: that it may have.

        Raises:
            InvalidRequest: the name leads out of the folder.
            InvalidImage: there is no such file, or it is too large.
        """
        path = self._inside(name, field)
        try:
            descriptor = os.open(path, _PLAIN | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise InvalidImage(f"'{name}' cannot be read: {error.strerror}", field=field) from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise InvalidImage(f"'{name}' is not a file", field=field)
        with os.fdopen(descriptor, "rb") as file:
            if status.st_size > max_bytes:
                raise InvalidImage(
                    f"'{name}' has {status.st_size:,} bytes, more than the limit of {max_bytes:,}",
                    field=field,
                )
            return file.read(max_bytes)

    def free_names(self, name: str, count: int, field: str) -> list[str]:
        """Names of new files, checked before anything is made: `a.png`, or `a-1.png` and so on.

        Args:
            name: of the file, relative to the folder.
            count: how many files.
            field: name of the field in errors.

        Raises:
            InvalidRequest: the name leads out of the folder.
            OutputError: a file is there already, there is no such folder, or the suffix is of no
                format that is written.
        """
        images.format_of(name, field=field)
        path = PurePosixPath(name)
        numbered = [str(path.with_stem(f"{path.stem}-{i + 1}")) for i in range(count)]
        names = [name] if count == 1 else numbered
        for each in names:
            target = self._inside(each, field)
            if target.exists():
                raise OutputError(f"'{each}' is there already; choose another name", field=field)
            if not target.parent.is_dir():
                raise OutputError(f"there is no folder for '{each}'", field=field)
        return names

    def write(self, name: str, encoded: bytes, field: str) -> None:
        """Write a file whole or not at all.

        Raises:
            InvalidRequest: the name leads out of the folder.
            OutputError: it cannot be written.
        """
        atomic_write(self._inside(name, field), encoded, field=field)

    def _inside(self, name: str, field: str) -> Path:
        """The path of a name; a link is followed, and must stay within the folder."""
        parts = PureWindowsPath(name).parts  # which splits at both kinds of slash
        is_relative = not (PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor)
        if not parts or not is_relative or ".." in parts or "\0" in name:
            raise InvalidRequest(
                f"{name!r} is not the name of a file below this server's folder",
                field=field,
            )
        try:
            path = (self.root / name).resolve()
        except (OSError, RuntimeError) as error:  # a circle of links
            raise InvalidRequest(f"{name!r} cannot be followed", field=field) from error
        if not path.is_relative_to(self.root):
            raise InvalidRequest(
                f"{name!r} is a link that leads out of this server's folder", field=field
            )
        return path

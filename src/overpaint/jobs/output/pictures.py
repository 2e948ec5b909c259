"""Where a batch's pictures go, and under which names. Actors on other machines write the same."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from overpaint.core.errors import OutputError
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.jobs.ledger import LedgerEntry
from overpaint.jobs.output import grid
from overpaint.jobs.output.encoding import PictureEncoding
from overpaint.jobs.units import Unit

if TYPE_CHECKING:
    from overpaint.core.types import EditResult

PICTURES = "pictures"
GRIDS = "grids"

LONGEST_NAME = 120
"""Bytes of a file's name that tell people where it comes from."""


@dataclass(frozen=True, kw_only=True)
class PictureFolder:
    """Writes results below a batch's folder; can be sent to another process.

    Attributes:
        out: the batch's folder.
        encoding: how pictures are written; sheets are PNG.
        grids: draw input, mask and output side by side, too.
        subfolders: spread the files over 256 folders, by the first digits of their units' ids.
    """

    out: Path
    encoding: PictureEncoding = field(default_factory=PictureEncoding)
    grids: bool = False
    subfolders: bool = False

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            OutputError: they cannot be made.
        """
        for name in (PICTURES, *([GRIDS] if self.grids else [])):
            _make(self.out / name)

    def keep(self, unit: Unit, result: EditResult) -> str:
        """Write a result; its file, relative to the batch's folder.

        Raises:
            OutputError: the disk is full or gone.
            InvalidRequest: the picture does not fit the format.
        """
        folder = f"{PICTURES}/{unit.id[:2]}" if self.subfolders else PICTURES
        picture = f"{folder}/{file_stem(unit)}{unit.suffix}"
        _make((self.out / picture).parent)
        self.encoding.save(result.pictures[0], self.out / picture)
        if self.grids:
            self.draw(unit, picture)
        return picture

    def has(self, entry: LedgerEntry) -> bool:
        """Whether the picture of an entry, if it has one, is there."""
        return entry.picture is None or (self.out / entry.picture).is_file()

    def draw(self, unit: Unit, picture: str) -> None:
        """Draw the sheet of a unit, where there is none that is newer than its picture."""
        source, sheet = self.out / picture, self.out / sheet_of(picture)
        if sheet.exists() and sheet.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            return
        image = grid.draw(unit.load(), images.decode(source).to_srgb())
        _make(sheet.parent)
        images.save(Picture(image), sheet)


def sheet_of(picture: str) -> str:
    """The sheet of a picture, both relative to the batch's folder."""
    return f"{GRIDS}/{PurePosixPath(picture).relative_to(PICTURES).with_suffix('.png')}"


def file_stem(unit: Unit) -> str:
    """A file's name: where the unit comes from, for people, and a part of its id.

    Letters and digits of all scripts stay as they are.
    """
    source = unicodedata.normalize("NFC", unit.source)
    words = re.sub(r"[^\w-]+", "-", PurePosixPath(source).with_suffix("").as_posix()).strip("-")
    number = re.search(r"#\d+$", source)
    end = words[-60:].encode()[-LONGEST_NAME:].decode(errors="ignore")
    stem = f"{end}{number[0].replace('#', '-') if number else ''}"
    return f"{stem}-{unit.id[:12]}".lstrip("-")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}", field="output") from error

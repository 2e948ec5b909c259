"""Where results go: names that overwrite nothing, checked before anything is computed."""

from __future__ import annotations

import itertools
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overpaint.apps.cli import interrupt
from overpaint.core.errors import OutputError

if TYPE_CHECKING:
    from overpaint.core.imaging.images import Picture

STDIO = "-"

ImageFile = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="PNG, JPEG, WebP, AVIF, HEIC or TIFF; - = stdin."),
]
FIELD = "output"

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Output:
    """The files that the pictures of one edit go to; none = the standard output."""

    paths: tuple[Path, ...]

    def write(self, pictures: Sequence[Picture]) -> list[str]:
        """Write each picture whole or not at all; from then on Ctrl-C comes too late.

        Returns:
            What was written.

        Raises:
            OutputError: the disk is full, or the folder went away; earlier pictures stay.
            KeyboardInterrupt: Ctrl-C came before; nothing was written.
        """
        from overpaint.core import files
        from overpaint.core.imaging import images

        if not self.paths:
            encoded = images.encode(pictures[0])
            interrupt.raise_if_pressed()
            sys.stdout.buffer.write(encoded)
            sys.stdout.buffer.flush()
            return [STDIO]
        ready = [
            images.encode(picture, images.format_of(path, field=FIELD))
            for path, picture in zip(self.paths, pictures, strict=True)
        ]
        interrupt.raise_if_pressed()
        interrupt.settle()
        for path, encoded in zip(self.paths, ready, strict=True):
            files.atomic_write(path, encoded, field=FIELD)
        return [str(path) for path in self.paths]

    def losses(self, pictures: Sequence[Picture]) -> list[str]:
        """What of a picture's own values the chosen format cannot hold."""
        from overpaint.core.imaging import images

        return [
            f"{FIELD}: {loss}"
            for path in self.paths[:1]
            for loss in images.losses(pictures[0], images.format_of(path, field=FIELD))
        ]

    @property
    def warnings(self) -> list[str]:
        """What the chosen format costs."""
        if any(path.suffix.lower() in {".jpg", ".jpeg"} for path in self.paths):
            return [
                "output: JPEG is lossy, so pixels outside the mask change a little too; choose "
                ".png or .webp to keep them"
            ]
        return []


def choose(image: str, out: str | None, count: int, *, force: bool) -> Output:
    """Names for `count` pictures made from `image`.

    Without `asked`: IMAGE-edited.png beside the input, the next free number if that is taken
    (`force`: taken or not). With it: that file, whether it exists or not, but not the input
    itself unless forced. Several pictures get -1, -2, … before the suffix.

    Raises:
        OutputError: the place cannot be written to, or the format is unknown.
    """
    out = out or (STDIO if image == STDIO else None)
    if out == STDIO:
        _check_stdout(count)
        return Output(())
    if out is None:
        source = Path(image)
        paths = _free_names(source.with_name(f"{source.stem}-edited.png"), count, force=force)
    else:
        paths = _numbered(Path(out), count)
        _check_not_input(paths, image, force=force)
    _check_names(paths)
    check_folder(paths[0].parent)
    return Output(tuple(paths))


def _check_stdout(count: int) -> None:
    if count > 1:
        raise OutputError(
            f"{count} pictures cannot go to the standard output; name a file with -o", field=FIELD
        )
    if sys.stdout.isatty():
        raise OutputError(
            "the standard output is a terminal; redirect it or name a file with -o", field=FIELD
        )


def _free_names(path: Path, count: int, *, force: bool) -> list[Path]:
    for start in itertools.count(1):
        paths = _numbered(path, count, start)
        if force or not any(each.exists() for each in paths):
            return paths
    raise AssertionError("counting does not end")


def _numbered(path: Path, count: int, start: int = 1) -> list[Path]:
    """`name.png`, then `name-2.png`, …; of several pictures `name-1.png`, `name-2.png`, …"""
    if count == 1 and start == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{start + index}") for index in range(count)]


def _check_not_input(paths: Sequence[Path], image: str, *, force: bool) -> None:
    source = Path(image)
    for path in paths:
        if not force and path.exists() and source.exists() and path.samefile(source):
            raise OutputError(
                f"{path} is the input itself; add --force to write over it", field=FIELD
            )


def _check_names(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.suffix.lower() not in _SUFFIXES:
            raise OutputError(
                f"{path} ends in '{path.suffix}'; use one of {', '.join(_SUFFIXES)}", field=FIELD
            )
        if path.is_dir():
            raise OutputError(f"{path} is a folder; add a file name to it", field=FIELD)


def check_folder(folder: Path) -> None:
    """Try whether it can be written to.

    Permissions alone do not tell (root, read-only file systems, quotas).

    Raises:
        OutputError: it cannot.
    """
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder; create it first", field=FIELD)
    probe = folder / f".overpaint-{secrets.token_hex(8)}.tmp"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written to ({error.strerror}); choose another folder", field=FIELD
        ) from error

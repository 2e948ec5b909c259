"""Where results go: names that overwrite nothing, checked before anything is computed."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overpaint.apps.cli import interrupt
from overpaint.core.errors import InvalidImage, OutputError

if TYPE_CHECKING:
    from overpaint.core.imaging.images import Picture

STDIO = "-"

ImageFile = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="PNG, JPEG, WebP, AVIF, HEIC or TIFF; - means stdin."),
]
FIELD = "output"

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_FORMATS = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp"}
"""Formats by their names on the command line, with the suffix that they get."""


@dataclass(frozen=True)
class Encoding:
    """How files are written, as the command line has it.

    Attributes:
        format: 'png', 'jpeg' or 'webp'; None = as the file's name ends, PNG without one.
        quality: 1 to 100, of JPEG and WebP; None = 95 for JPEG, every pixel kept for WebP.
    """

    format: str | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format.lower() not in _FORMATS:
            raise OutputError(
                f"'{self.format}' is not one of {', '.join(_FORMATS)}", field="format"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise OutputError(f"{self.quality} is not between 1 and 100", field="quality")

    @property
    def suffix(self) -> str | None:
        """That the format asks for."""
        return None if self.format is None else _FORMATS[self.format.lower()]

    def check(self, suffix: str) -> None:
        """Refuse a file's ending that is of another format, or whose format has no quality.

        Raises:
            OutputError: it is.
        """
        format_ = _SUFFIXES[suffix]
        if self.suffix is not None and format_ != _SUFFIXES[self.suffix]:
            raise OutputError(
                f"'{self.format}' is not what a file that ends in '{suffix}' holds; leave it out, "
                "or name another file",
                field="format",
            )
        if self.quality is not None and format_ == "PNG":
            raise OutputError(
                "PNG keeps every pixel and has no quality; choose --format jpeg or webp",
                field="quality",
            )

    def is_lossy(self, suffix: str) -> bool:
        """Whether pixels change a little when they are written."""
        format_ = _SUFFIXES[suffix]
        return format_ == "JPEG" or (format_ == "WEBP" and self.quality is not None)

    def encode(self, picture: Picture, suffix: str) -> bytes:
        """The bytes of a file that ends so."""
        from overpaint.core.imaging import images

        lossless = self.quality is None
        quality = 95 if self.quality is None else self.quality
        return images.encode(
            picture, images.format_of(f"x{suffix}"), quality=quality, lossless=lossless
        )


@dataclass(frozen=True)
class Output:
    """The files that the pictures of one edit go to; none = the standard output."""

    paths: tuple[Path, ...]
    encoding: Encoding = field(default_factory=Encoding)

    def write(self, pictures: Sequence[Picture]) -> list[str]:
        """Write each picture whole or not at all; from then on Ctrl-C comes too late.

        Returns:
            The files' names.

        Raises:
            OutputError: the disk is full, or the folder went away; earlier pictures stay.
            KeyboardInterrupt: Ctrl-C came before; nothing was written.
        """
        from overpaint.core import files

        if not self.paths:
            encoded = self.encoding.encode(pictures[0], self.encoding.suffix or ".png")
            interrupt.raise_if_pressed()
            sys.stdout.buffer.write(encoded)
            sys.stdout.buffer.flush()
            return [STDIO]
        ready = [
            self.encoding.encode(picture, path.suffix.lower())
            for path, picture in zip(self.paths, pictures, strict=True)
        ]
        interrupt.raise_if_pressed()
        interrupt.settle()
        for path, encoded in zip(self.paths, ready, strict=True):
            files.atomic_write(path, encoded, field=FIELD)
        return [str(path) for path in self.paths]

    def losses(self, pictures: Sequence[Picture]) -> list[str]:
        """The values of pictures that the chosen format cannot hold."""
        from overpaint.core.imaging import images

        return [
            f"{FIELD}: {loss}"
            for path in self.paths[:1]
            for loss in images.losses(pictures[0], images.format_of(path, field=FIELD))
        ]

    @property
    def warnings(self) -> list[str]:
        """What the chosen format costs."""
        suffixes = {path.suffix.lower() for path in self.paths}
        lossy = sorted(_SUFFIXES[each] for each in suffixes if self.encoding.is_lossy(each))
        if not lossy:
            return []
        cure = "leave --quality out" if lossy == ["WEBP"] else "choose .png or .webp"
        return [
            f"output: {lossy[0]} is lossy, so pixels outside the mask change a little too; {cure} "
            "to keep them"
        ]


def choose(
    image: str,
    out: str | None,
    count: int,
    *,
    force: bool,
    others: Sequence[Path] = (),
    encoding: Encoding | None = None,
    field: str = "image",
) -> Output:
    """Names for `count` pictures made from `image`.

    Without `out`: IMAGE-edited.png beside the input, the next free number if that is taken
    (`force`: taken or not). With it: that file, whether it exists or not, but none of the inputs
    unless forced. Several pictures get -1, -2, … before the suffix.

    Args:
        image: the input; - = the standard input.
        out: where it goes; - = the standard output.
        count: pictures.
        force: write over whatever is there.
        others: further files that are read.
        encoding: how they are written.
        field: name of the input, in errors.

    Raises:
        InvalidImage: the input that names follow from is not there.
        OutputError: the place cannot be written to, or the format is unknown.
    """
    encoding = encoding or Encoding()
    out = out or (STDIO if image == STDIO else None)
    if out == STDIO:
        _check_stdout(count)
        encoding.check(encoding.suffix or ".png")
        return Output((), encoding)
    if out is None:
        source = Path(image)
        if source.is_dir():
            raise InvalidImage(f"{source} is a folder; give the path of a picture.", field=field)
        if not source.parent.is_dir():
            raise InvalidImage(
                f"{source} cannot be read: there is no folder {source.parent}", field=field
            )
        name = f"{source.stem}-edited{encoding.suffix or '.png'}"
        paths = _free_names(source.with_name(name), count, force=force)
    else:
        paths = _numbered(Path(out), count)
    if not force:
        _check_not_inputs(paths, (Path(image), *others))
    _check_names(paths)
    encoding.check(paths[0].suffix.lower())
    check_folder(paths[0].parent)
    return Output(tuple(paths), encoding)


def _check_stdout(count: int) -> None:
    if count > 1:
        raise OutputError(
            f"{count} pictures cannot go to the standard output; name a file with -o", field=FIELD
        )
    if getattr(sys.stdout, "name", None) == os.devnull:
        raise OutputError("the standard output is closed; name a file with -o", field=FIELD)
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
    """`name.png`, then `name-2.png`, …; for several pictures `name-1.png`, `name-2.png`, …"""
    if count == 1 and start == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{start + index}") for index in range(count)]


def _check_not_inputs(paths: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over a picture, mask or reference that the edit reads."""
    for path, source in itertools.product(paths, inputs):
        if path.exists() and source.exists() and path.samefile(source):
            what = "the input itself" if source == inputs[0] else "one of the edit's inputs"
            raise OutputError(f"{path} is {what}; add --force to overwrite it", field=FIELD)


def _check_names(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; add a file name to it", field=FIELD)
        if path.suffix.lower() not in _SUFFIXES:
            what = f"ends in '{path.suffix}'" if path.suffix else "has no ending"
            raise OutputError(f"{path} {what}; use one of {', '.join(_SUFFIXES)}", field=FIELD)


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

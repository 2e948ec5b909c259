"""How a batch writes its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.core.errors import OutputError
from overpaint.core.imaging import images
from overpaint.core.imaging.codecs.formats import sniffed
from overpaint.core.imaging.images import Picture

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "jpg": ".jpg", "webp": ".webp"}
"""Formats by their names, with the suffix that they get."""

INPUT = "input"
"""The format of each row's own picture; PNG where that one can be read and not written."""

LOSSY_QUALITY = 95


@dataclass(frozen=True)
class PictureEncoding:
    """Format and quality.

    Attributes:
        format: 'png', 'jpeg', 'webp' or 'input'.
        quality: 1 to 100, of JPEG and WebP; None = 95 for JPEG, every pixel kept for WebP.

    Raises:
        OutputError: there is no such format or quality.
    """

    format: str = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.format not in (*SUFFIXES, INPUT):
            raise OutputError(
                f"'{self.format}' is not one of {', '.join((*SUFFIXES, INPUT))}", field="format"
            )
        if self.quality is None:
            return
        if not 1 <= self.quality <= 100:
            raise OutputError(f"{self.quality} is not between 1 and 100", field="quality")
        if self.format == "png":
            raise OutputError(
                "PNG keeps every pixel and has no quality; choose --format jpeg, webp or input",
                field="quality",
            )

    def identity(self) -> dict[str, Any]:
        """Its part in a unit's id: nothing for PNG, so that earlier ledgers hold."""
        if self.format == "png":
            return {}
        return {"encoding": [SUFFIXES.get(self.format, self.format), self.quality]}

    def suffix(self, image: bytes | Path) -> str:
        """The suffix of a picture made from this one: its encoded bytes, or its file."""
        return self.suffix_of(image.suffix[1:] if isinstance(image, Path) else sniffed(image))

    def suffix_of(self, name: str | None) -> str:
        """The suffix of a picture made from one in the format of this name; None = in no file."""
        return SUFFIXES.get((name or "").lower() if self.format == INPUT else self.format, ".png")

    def save(self, picture: Picture, path: Path) -> None:
        """Write a picture as its path's suffix says, whole or not at all.

        Raises:
            OutputError: the disk is full or gone.
            InvalidRequest: the picture does not fit the format.
        """
        images.save(
            picture, path, quality=self.quality or LOSSY_QUALITY, lossless=self.quality is None
        )

"""Where a picture's bytes lie: in a file, a tar, a Parquet row, annotations, or nowhere.

Places are small and can be sent to another process, which reads the bytes when their turn comes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from overpaint.core.errors import InvalidImage, InvalidMask
from overpaint.core.imaging import images, masks
from overpaint.core.imaging.images import Picture
from overpaint.jobs import inputs

LARGEST_PICTURE = images.ImageLimits().max_bytes


@dataclass(frozen=True)
class InFile:
    """A picture file."""

    path: Path

    @property
    def part(self) -> str:
        """Where in the file it is; '' = it is the whole file."""
        return ""

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidImage: it cannot be read, is too large, or is text under a picture's name.
        """
        return inputs.input_file(self.path, "image").read("image")


@dataclass(frozen=True)
class LinkedAway:
    """A link in a source's folder to a file outside of it, which is not read: the folder may be a
    stranger's, and the file the user's own.
    """

    path: Path

    def read(self) -> bytes:
        """Never gives anything.

        Raises:
            InvalidImage: always.
        """
        target = os.path.realpath(self.path)
        what = "lies outside of the folder; copy it there" if self.path.exists() else "is not there"
        raise InvalidImage(f"{self.path} is a link to {target}, which {what}", field="image")


@dataclass(frozen=True)
class InTar:
    """A member of an uncompressed tar file."""

    path: Path
    offset: int
    length: int

    @property
    def part(self) -> str:
        """Where in the file it is."""
        return f"{self.offset}+{self.length}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidImage: the file cannot be read, is cut off, or the member is too large.
        """
        _check_length(self.length, f"a member of {self.path}")
        with _reading(self.path), self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) < self.length:
            raise InvalidImage(f"{self.path} is cut off", field="image")
        return data


@dataclass(frozen=True)
class InParquet:
    """A cell of a Parquet file that has the bytes themselves."""

    path: Path
    group: int
    row: int
    column: str

    @property
    def part(self) -> str:
        """Where in the file it is."""
        return f"{self.group}.{self.row}.{self.column}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidImage: there are none, or the file cannot be read.
        """
        with _reading(self.path):
            value = _column(self.path, self.group, self.column)[self.row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise InvalidImage(
                f"row {self.row} of {self.path} has no picture in '{self.column}'", field="image"
            )
        return data


@dataclass(frozen=True)
class Annotated:
    """COCO annotations as JSON, which make a mask of the picture that they belong to."""

    annotations: str


@dataclass(frozen=True)
class Nowhere:
    """A picture of one colour."""

    width: int
    height: int
    colour: str

    def read(self) -> bytes:
        """A PNG of it."""
        file = io.BytesIO()
        Image.new("RGB", (self.width, self.height), self.colour).save(file, "PNG")
        return file.getvalue()


Place = InFile | InTar | InParquet | LinkedAway | Nowhere
"""Where a picture lies."""

MaskPlace = InFile | InTar | InParquet | Annotated
"""Where a mask lies."""


@dataclass(frozen=True)
class Knowledge:
    """What a source says of a picture beside its bytes, to be carried into the data set.

    Attributes:
        columns: plain data by name: captions, labels, ids.
        annotations: as COCO has them, each with the name of its `category`.
        categories: of COCO, all of the file.
        files: further members of a WebDataset sample, by suffix.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    annotations: tuple[Mapping[str, Any], ...] = ()
    categories: tuple[Mapping[str, Any], ...] = ()
    files: Mapping[str, InTar] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """A picture of a source.

    Attributes:
        name: of its own within the recipe, such as 'photos/boat.jpg' or 'train.parquet#7'.
        image: where it lies.
        mask: where its mask lies, if it has one.
        fields: what else is known of it, for templates and lineage.
        licence: of its source.
        knowledge: what goes along into the data set.
    """

    name: str
    image: Place
    mask: MaskPlace | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    licence: str = "unknown"
    knowledge: Knowledge = Knowledge()

    def load_mask(self, picture: Picture) -> Image.Image | None:
        """The mask that came with the picture.

        Raises:
            InvalidImage, InvalidMask: it cannot be read, or does not fit.
        """
        if self.mask is None:
            return None
        if isinstance(self.mask, Annotated):
            return _annotated(self.mask, picture.size)
        return images.decode_mask(self.mask.read(), size=picture.size)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """An error of the system about a file, in our words."""
    try:
        yield
    except OSError as error:
        raise InvalidImage(
            f"{path} cannot be read: {error.strerror or error}", field="image"
        ) from error


def _check_length(length: int, of: str) -> None:
    if length > LARGEST_PICTURE:
        raise InvalidImage(
            f"{of} has {length:,} bytes, more than {LARGEST_PICTURE:,}", field="image"
        )


def _annotated(place: Annotated, size: tuple[int, int]) -> Image.Image:
    from overpaint.core.imaging import detections

    try:
        entries: list[dict[str, Any]] = json.loads(place.annotations)
    except ValueError as error:
        raise InvalidMask(f"the annotations are not JSON: {error}", field="mask") from error
    if not entries:
        return Image.new("L", size, 0)
    return masks.combine([detections.union(detections.parse(entries, size), size)])


@lru_cache(maxsize=2)
def _column(path: Path, group: int, column: str) -> Any:
    """A column of a row group; the last two are kept."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0)


def rows_without(path: Path, group: int, column: str) -> set[int]:
    """Rows of a row group that have nothing in a column of files: null, or null as its bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with _reading(path):
        values = _column(path, group, column)
        if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
            values = pc.struct_field(values, "bytes")
        return {row for row, is_there in enumerate(values.is_valid().to_pylist()) if not is_there}

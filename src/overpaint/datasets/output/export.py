"""The data set as files: one folder for each format, written anew from the ledger each time."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overpaint.core.errors import OutputError
from overpaint.core.files import atomic_write
from overpaint.datasets.outcome import Member, Outcome
from overpaint.datasets.output import carried as carry
from overpaint.datasets.output import formats
from overpaint.datasets.output.coco import coco
from overpaint.datasets.output.formats import DataSetLayout, Sample
from overpaint.datasets.places import Annotated
from overpaint.datasets.recipes.sections import OutputSection

DATA = "data"
"""Folder of the formats, below the output folder."""

REJECTED = "rejected.jsonl"
"""What was left out, with reasons."""

OWN = frozenset(
    [
        *("id", "prompt", "ending", "note", "seed", "model", "revision", "options"),
        *("source_name", "licence", "flagged", "width", "height", "brightness", "contrast"),
        *("sharpness", "changed", "hash", "issues", "shows_score", "sha256", "objects"),
        *("image", "source", "mask", "source_mask", "file_name", "source_file_name"),
        *("mask_file_name", "source_mask_file_name"),
    ]
)
"""Columns of our own; a column of a source that has such a name gets `source_` before it."""

_UNDONE = ".data-unfinished"

WRITERS: dict[str, Callable[[Path, Iterable[Sample], DataSetLayout], None]] = {
    "imagefolder": formats.imagefolder,
    "webdataset": formats.webdataset,
    "coco": coco,
    "parquet": formats.parquet,
    "triples": formats.triples,
}


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """Writes an outcome.

    Attributes:
        folder: of the output.
        output: formats and what goes into them.
        card: of the data set, as Markdown; goes along with each format.
    """

    folder: Path
    output: OutputSection
    card: str = ""

    def write(self, outcome: Outcome) -> None:
        """Write all formats and the list of what was left out, in place of earlier ones.

        Raises:
            OutputError: the disk is full, or a made picture is gone.
        """
        unfinished = self.folder / _UNDONE
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for name in self.output.formats:
                place = unfinished / name
                place.mkdir(parents=True)
                WRITERS[name](place, self.samples(outcome), self._columns(outcome)[1])
                (place / "README.md").write_text(self.card, encoding="utf-8")
            shutil.rmtree(self.folder / DATA, ignore_errors=True)
            unfinished.rename(self.folder / DATA)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written: {error.strerror or error}", field="output"
            ) from error
        lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in left_out(outcome)]
        atomic_write(self.folder / REJECTED, "".join(lines).encode())

    def samples(self, outcome: Outcome) -> Iterator[Sample]:
        """The kept pictures as bytes, one at a time, in their order."""
        carried, _ = self._columns(outcome)
        for number, (row, columns) in enumerate(zip(outcome.members, carried, strict=True)):
            yield self._sample(f"{number:06d}", row, columns)

    def _columns(self, outcome: Outcome) -> tuple[list[dict[str, Any]], DataSetLayout]:
        """What the sources said of each picture, and what is known of the whole."""
        rows = [carried_columns(row) for row in outcome.members]
        types = carry.uniform(rows)
        annotated = any(is_annotated(row) for row in outcome.members)
        if annotated:
            types["objects"] = carry.objects_type()
            for row in rows:
                row["objects"] = None
        masks = any("mask" in row.entry.extra for row in outcome.members)
        there = {
            "image": True,
            "source": self.output.sources,
            "mask": self.output.sources and masks,
            "source_mask": any(has_mask(row) for row in outcome.members),
        }
        layout = DataSetLayout(
            shard=self.output.shard,
            roles=tuple(role for role, is_there in there.items() if is_there),
            carried=types,
            is_annotated=annotated,
        )
        return rows, layout

    def _sample(self, key: str, row: Member, columns: dict[str, Any]) -> Sample:
        entry, knowledge = row.entry, row.task.item.knowledge
        picture = entry.picture
        image = (self.folder / picture).read_bytes() if picture else row.task.item.image.read()
        source = row.task.item.image.read() if self.output.sources else None
        name = entry.extra.get("mask")
        mask = (self.folder / name).read_bytes() if name else None
        repainted = None if mask is None else formats.as_mask(mask)
        annotations = carry.remaining(knowledge.annotations if is_cleaned(row) else (), repainted)
        if "objects" in columns:
            columns = {**columns, "objects": carry.objects(annotations)}
        return Sample(
            key=key,
            image=image,
            source=source,
            mask=mask if self.output.sources else None,
            metadata=metadata(row, image) | columns,
            source_mask=self._source_mask(row, repainted),
            annotations=annotations,
            categories=knowledge.categories if is_cleaned(row) else (),
            files=self._files(row),
        )

    def _files(self, row: Member) -> dict[str, bytes]:
        """Further members of the source's WebDataset sample."""
        if not is_cleaned(row) or "webdataset" not in self.output.formats:
            return {}
        return {name: place.read() for name, place in row.task.item.knowledge.files.items()}

    def _source_mask(self, row: Member, repainted: Any) -> bytes | None:
        """The mask that came with the picture, as far as it still holds."""
        place = row.task.item.mask
        if not has_mask(row) or place is None or isinstance(place, Annotated):
            return None
        return carry.without(place.read(), repainted)


def is_cleaned(row: Member) -> bool:
    """Whether it is its source's picture, so that what the source said of it holds."""
    return "cell" not in row.entry.extra


def is_annotated(row: Member) -> bool:
    """Whether things in the picture are annotated, or could be: its file has categories."""
    knowledge = row.task.item.knowledge
    return is_cleaned(row) and bool(knowledge.annotations or knowledge.categories)


def has_mask(row: Member) -> bool:
    """Whether a mask came with the picture; annotations go along as such."""
    place = row.task.item.mask
    return is_cleaned(row) and place is not None and not isinstance(place, Annotated)


def carried_columns(row: Member) -> dict[str, Any]:
    """What the source said of the picture, by the names that its columns have here."""
    return carry.columns(row.task.item.knowledge.columns, OWN) if is_cleaned(row) else {}


def metadata(row: Member, image: bytes) -> dict[str, Any]:
    """A row of metadata: words, numbers and None. Times stay in the ledger: two runs agree."""
    entry, extra = row.entry, row.entry.extra
    model = entry.recipe.get("model", {})
    measures = {
        name: extra["measures"][name]
        for name in ("width", "height", "brightness", "contrast", "sharpness", "changed", "hash")
    }
    return {
        "id": entry.id,
        "prompt": entry.prompt,
        **{f"axis_{axis}": value for axis, value in extra.get("cell", {}).items()},
        "ending": extra.get("ending", "edited"),
        "note": entry.reason,
        "seed": entry.seed,
        "model": model.get("name"),
        "revision": model.get("revision"),
        "options": json.dumps(entry.recipe.get("options", {}), sort_keys=True),
        "source_name": row.task.item.name,
        "licence": row.task.item.licence,
        "flagged": entry.flagged,
        **measures,
        "issues": ", ".join(extra["measures"]["issues"]),
        "shows_score": extra.get("shows", {}).get("score"),
        "sha256": hashlib.sha256(image).hexdigest(),
    }


def left_out(outcome: Outcome) -> Iterator[Mapping[str, Any]]:
    """A line for each picture that is not in the data set."""
    for each in outcome.rejected:
        yield {
            "id": each.entry.id,
            "source": each.task.item.name,
            "prompt": each.entry.prompt,
            "cell": each.entry.extra.get("key"),
            "status": "duplicate" if each.like else each.entry.status,
            "code": each.entry.code,
            "reason": each.reason,
            "like": each.like,
            "picture": each.entry.picture,
            "attempts": each.entry.attempts,
        }

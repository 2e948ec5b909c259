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
from overpaint.datasets.output import formats
from overpaint.datasets.output.formats import Sample
from overpaint.datasets.recipes.sections import OutputSection

DATA = "data"
"""Folder of the formats, below the output folder."""

REJECTED = "rejected.jsonl"
"""What was left out, with reasons."""

_UNDONE = ".data-unfinished"

WRITERS: dict[str, Callable[[Path, Iterable[Sample], int], None]] = {
    "imagefolder": formats.imagefolder,
    "webdataset": formats.webdataset,
    "coco": formats.coco,
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
                WRITERS[name](place, self.samples(outcome), self.output.shard)
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
        for number, row in enumerate(outcome.members):
            yield self._sample(f"{number:06d}", row)

    def _sample(self, key: str, row: Member) -> Sample:
        entry = row.entry
        picture = entry.picture
        image = (self.folder / picture).read_bytes() if picture else row.task.item.image.read()
        source = row.task.item.image.read() if self.output.sources else None
        mask = entry.extra.get("mask") if self.output.sources else None
        return Sample(
            key=key,
            image=image,
            source=source,
            mask=(self.folder / mask).read_bytes() if mask else None,
            metadata=metadata(row, image),
        )


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

"""The report: one static HTML file, with its pictures in it, to be looked at before training.

Everything that others wrote (names, prompts, reasons) goes through the template's escaping, and the
page's own policy allows no scripts but the one in it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from overpaint.core.errors import OverpaintError
from overpaint.core.files import atomic_write
from overpaint.core.imaging import images
from overpaint.datasets.clean import endings
from overpaint.datasets.outcome import Member, Outcome, Rejection
from overpaint.datasets.output.card import Facts, by_cell, made_by_model
from overpaint.datasets.recipes.recipe import Clean, Recipe
from overpaint.jobs.ledger import LedgerEntry

REPORT = "report.html"

CONTACTS = 120
"""Pictures on the contact sheet."""

PAIRS = 24
"""Before and after."""

WORST = 12
REJECTS = 60
DUPLICATES = 24
THUMBNAIL = 160
LARGE = 384
BINS = 24

HISTOGRAMS = {"brightness": 1.0, "contrast": 0.5, "changed": 1.0, "sharpness": None}
"""Measures and the end of the range that is drawn; None = the largest value."""


_SCRIPT = """
for (const range of document.querySelectorAll(".slider + input")) {
  range.addEventListener("input", () => {
    range.previousElementSibling.style.setProperty("--cut", range.value + "%");
  });
}
"""


@dataclass(frozen=True)
class Histogram:
    """Counts of a measure, before and after; `before` and `target` are None without one."""

    name: str
    low: float
    high: float
    after: list[int]
    before: list[int] | None
    target: float | None = None

    @property
    def place_of_target(self) -> float:
        """Bins from the left."""
        return ((self.target or 0.0) - self.low) / (self.high - self.low) * BINS

    @property
    def most(self) -> int:
        """The largest count, at least 1."""
        return max([1, *self.after, *(self.before or [])])


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Writes the report of an outcome.

    Attributes:
        folder: of the output.
        facts: of recipe and models.
    """

    folder: Path
    facts: Facts

    def write(self, outcome: Outcome) -> Path:
        """Write the report in place of an earlier one.

        Raises:
            OutputError: it cannot be written.
        """
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("overpaint.datasets.output", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = environment.get_template("report.html.jinja").render(self._summary(outcome))
        atomic_write(self.folder / REPORT, page.encode())
        return self.folder / REPORT

    def _summary(self, outcome: Outcome) -> dict[str, Any]:
        pairs = [row for row in outcome.members if row.is_made]
        return {
            "script": Markup(_SCRIPT),  # noqa: S704 - our own, with its hash in the policy
            "script_hash": base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
            "facts": self.facts,
            "notes": self.facts.notes(),
            "total": len(outcome.members),
            "generated": made_by_model(outcome),
            "statuses": sorted(outcome.statuses().items()),
            "surplus": outcome.surplus,
            "stopped": outcome.stopped,
            "endings": endings(outcome) if not outcome.target else {},
            "cells": [
                (key, outcome.target.get(key, 0), count) for key, count in by_cell(outcome).items()
            ]
            if outcome.target
            else [],
            "contacts": [self._card(row, THUMBNAIL) for row in _spread(outcome.members, CONTACTS)],
            "pairs": [self._pair(row) for row in _spread(pairs, PAIRS)],
            "worst": [self._pair(row) | {"why": _doubt(row.entry)[1]} for row in worst(pairs)],
            "rejects": [self._reject(each) for each in _rejects(outcome)],
            "duplicates": self._duplicates(outcome),
            "histograms": histograms(outcome, _targets(self.facts.recipe)),
        }

    def _card(self, row: Member, side: int) -> dict[str, Any]:
        return {"image": self._after(row, side), "title": _title(row.entry), "note": _note(row)}

    def _pair(self, row: Member) -> dict[str, Any]:
        return {
            "before": thumbnail(_bytes(row.task.item.image), LARGE),
            "after": self._after(row, LARGE),
            "title": _title(row.entry),
            "note": _note(row),
        }

    def _reject(self, each: Rejection) -> dict[str, Any]:
        picture = each.entry.picture
        data = (self.folder / picture).read_bytes() if picture else _bytes(each.task.item.image)
        return {
            "image": thumbnail(data, THUMBNAIL),
            "title": _title(each.entry),
            "status": each.entry.status,
            "reason": each.reason,
        }

    def _duplicates(self, outcome: Outcome) -> list[dict[str, Any]]:
        members = {row.entry.id: row for row in outcome.members}
        twins = [each for each in outcome.rejected if each.like in members][:DUPLICATES]
        return [
            {"kept": self._after(members[each.like or ""], THUMBNAIL), "left": self._reject(each)}
            for each in twins
        ]

    def _after(self, row: Member, side: int) -> str:
        picture = row.entry.picture
        data = (self.folder / picture).read_bytes() if picture else _bytes(row.task.item.image)
        return thumbnail(data, side)


def thumbnail(data: bytes, side: int) -> str:
    """A small JPEG as a data URI; '' where the picture cannot be decoded."""
    try:
        small = images.decode(data).to_srgb().copy()
    except OverpaintError:
        return ""
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def histograms(outcome: Outcome, targets: Mapping[str, float | None]) -> list[Histogram]:
    """The histograms of the measures, before (where there are any) and after, with their
    targets."""
    charts = []
    sources = [entry.extra["before"] for entry in outcome.entries() if "before" in entry.extra]
    for name, end in HISTOGRAMS.items():
        after = [row.entry.extra["measures"][name] for row in outcome.members]
        before = [measures[name] for measures in sources if name in measures]
        high = end if end is not None else math.ceil(max([1, *after, *before]))
        counts = _counts(after, high), _counts(before, high) or None
        charts.append(Histogram(name, 0, high, *counts, targets.get(name)))
    return charts


def worst(rows: Sequence[Member]) -> list[Member]:
    """The edited pictures that are least sure to be good, see `_doubt`."""
    return sorted(rows, key=lambda row: _doubt(row.entry)[0])[:WORST]


def _doubt(entry: LedgerEntry) -> tuple[tuple[float, float], str]:
    """How good an edit is: a sort key, the worst first, and words for it.

    The vision model's score; else how well the rest was kept; then how much changed.
    """
    changed = float(entry.extra["measures"]["changed"])
    words = f"{changed:.1%} changed"
    shows, rest_db = entry.extra.get("shows"), entry.extra.get("gate", {}).get("kept_psnr")
    if shows is not None:
        return (float(shows["score"]), -changed), f"score {shows['score']:.2f}, {words}"
    if rest_db is not None:
        return (float(rest_db), -changed), f"the rest kept to {rest_db:.0f} dB, {words}"
    return (0.0, -changed), words


def _counts(values: Iterable[float], high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        place = int(value / high * BINS)
        counts[min(max(place, 0), BINS - 1)] += 1
    return counts if any(counts) else []


def _targets(recipe: Recipe) -> dict[str, float | None]:
    exact = recipe.exact if isinstance(recipe, Clean) else None
    return {"brightness": exact.exposure, "contrast": exact.contrast} if exact is not None else {}


def _spread(rows: Sequence[Member], most: int) -> Sequence[Member]:
    """Rows spread evenly over the data set."""
    return rows[:: max(1, -(-len(rows) // most))]


def _rejects(outcome: Outcome) -> list[Rejection]:
    """Some of each reason, so that one common reason does not hide the rest."""
    by_reason: dict[str, list[Rejection]] = {}
    for each in outcome.rejected:
        if each.like is None:
            by_reason.setdefault(each.entry.code or each.reason.split(":")[0], []).append(each)
    if not by_reason:
        return []
    share = max(1, REJECTS // len(by_reason))
    return [each for some in by_reason.values() for each in some[:share]][:REJECTS]


def _title(entry: LedgerEntry) -> str:
    return entry.extra.get("key") or entry.source


def _note(row: Member) -> str:
    parts = [row.entry.prompt, row.entry.extra.get("ending", ""), row.entry.reason]
    return " · ".join(part for part in parts if part)


def _bytes(place: Any) -> bytes:
    try:
        return bytes(place.read())
    except OverpaintError:
        return b""

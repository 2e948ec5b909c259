"""The table of docs/architecture.md: which part of an edit goes through which door, and why not.

python -m scripts.doors            print it
python -m scripts.doors --write    put it into the page
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from overpaint.apps.cli.bulk import batch
from overpaint.apps.cli.editing import edits
from overpaint.apps.cli.provenance import REPLAY_LEFT_OUT
from overpaint.apps.server.protocols import oip
from overpaint.apps.wiring import painting
from overpaint.core.types import PARTS
from overpaint.datasets.recipes import sections
from overpaint.jobs import rows
from overpaint.sessions import types as sessions

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
START, END = "<!-- doors -->", "<!-- /doors -->"

DOORS: Mapping[str, Mapping[str, str]] = {
    "library, `POST /v1/edits`, OpenAI's route, replay of a turn": {},
    "`/v2` (OIP) tensors": oip.LEFT_OUT,
    "`inpaint`": edits.LEFT_OUT["inpaint"],
    "`edit`": edits.LEFT_OUT["edit"],
    "`erase`": edits.LEFT_OUT["erase"],
    "`extend`": edits.LEFT_OUT["extend"],
    "`session edit`": {},
    "`replay`": REPLAY_LEFT_OUT,
    "`batch`, for all rows": batch.LEFT_OUT,
    "rows (batch, Azure, MLflow)": rows.LEFT_OUT,
    "a turn's stored inputs": sessions.OWN,
    "data-set recipes": sections.OWN,
    "workflow blocks": painting.LEFT_OUT,
}
"""What each door leaves out."""


def table() -> str:
    """The table in Markdown: a row for each door, with its reasons."""
    lines = ["| door | leaves out |", "| --- | --- |"]
    for door, reasons in DOORS.items():
        names = [part.name for part in PARTS if part.name in reasons]
        said = "; ".join(f"`{name}`: {reasons[name]}" for name in names)
        lines.append(f"| {door} | {said or 'nothing'} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the table as it is now."""
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(table() + "\n")

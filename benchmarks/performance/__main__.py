"""How much faster than a public peer, on the same checkpoint, in one run, in turns.

    python -m benchmarks.performance                     # everything; an hour or two on two cores
    python -m benchmarks.performance --rows prelude step # some groups; the others' rows stay

Every group is a module beside this one with `rows(folder, rounds)`. Figures are medians; ratios
count, seconds depend on the machine. A group whose parity gate fails ends the run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import performance, report

NAME = "performance"
HELPERS = ("__main__", "memory", "peers", "proof")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run groups of rows and write the table of all that were ever run."""
    groups = sorted({each.name for each in pkgutil.iter_modules(performance.__path__)} - {*HELPERS})
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=groups, default=groups, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path(tempfile.gettempdir()) / "overpaint-real",
        help="folder of the checkpoints, which are made where they are missing (5 GB for sd2)",
    )
    given = parser.parse_args(arguments)
    found = _earlier()
    for group in given.rows:
        module = importlib.import_module(f"benchmarks.performance.{group}")
        rows = module.rows(given.checkpoint, given.rounds)
        found[group] = [_described(row, group, given.rounds) for row in rows]
        _write(found)


def _described(row: dict[str, Any], group: str, rounds: int) -> dict[str, Any]:
    """A row with the columns that all have, and when and how it was measured."""
    columns = {
        "work": "",
        "peer": "diffusers",
        "peer s": "",
        "ours s": "",
        "ratio": "",
        "asked": "",
    }
    measured = {"rows": group, "rounds": rounds, "load": f"{os.getloadavg()[0]:.1f}"}
    return {**columns, "peer": "diffusers", **row, **measured}


def _earlier() -> dict[str, list[dict[str, Any]]]:
    """Rows of earlier runs by group."""
    file = report.RESULTS / f"{NAME}.json"
    found: dict[str, list[dict[str, Any]]] = {}
    if file.is_file():
        for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
            found.setdefault(row["rows"], []).append(row)
    return found


def _write(found: dict[str, list[dict[str, Any]]]) -> None:
    report.write(
        NAME,
        "Speed beside public peers on the same checkpoint",
        "python -m benchmarks.performance --rows ROWS --rounds ROUNDS",
        [row for group in sorted(found) for row in found[group]],
    )


if __name__ == "__main__":
    main()

"""Killed at random moments and started again, a batch ends with the same bytes; so do its shares.

`python -m benchmarks.batch` does the same with a thousand rows.
"""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

from benchmarks import batch
from overpaint.apps.cli.commands import app

ROWS, KILLS, BAD, SIZE = 48, 1, 8, 64


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs that nobody kills need no process of their own, which takes long to start."""

    def run(source, out, options) -> batch.Ran:
        ran = CliRunner().invoke(app, ["batch", str(source), "--out", str(out), "--json", *options])
        assert ran.exit_code in (0, 2), ran.output
        return batch.Ran(json.loads(ran.stdout), seconds=0, peak=0)

    monkeypatch.setattr(batch, "run", run)


@pytest.mark.usefixtures("in_this_process")
def test_killed_alone_and_in_three_shares(tmp_path, checkpoint_folder):
    source, model = tmp_path / "rows.csv", str(checkpoint_folder("sd2"))
    options = ("--model", model, "--dtype", "float32", "-O", "num_inference_steps=1")
    batch.write_rows(source, ROWS, bad=BAD, size=SIZE)
    whole = batch.run(source, tmp_path / "whole", options)
    rng = random.Random(7)
    last = batch.run_killed(source, tmp_path / "killed", options, kills=KILLS, rng=rng)
    joined = batch.run_shares(source, tmp_path / "joined", options, count=3, rng=rng)

    shown = batch.claims(tmp_path / "whole", tmp_path / "killed", ROWS, BAD)
    assert [row["promise"] for row in shown if row["holds"] != "yes"] == []
    assert (whole.summary["computed"], whole.summary["rows"]) == (ROWS, ROWS)
    assert last.summary["computed"] < ROWS
    told = ("rows", "done", "failed", "blocked", "rejected", "errors")
    assert [last.summary[name] for name in told] == [whole.summary[name] for name in told]
    assert batch.differences(tmp_path / "whole", tmp_path / "joined") == []
    assert joined.summary["computed"] < ROWS


def test_the_comparison_bites(tmp_path):
    """A picture that differs, one too many and one too few are noticed."""
    for name in ("one", "other"):
        (tmp_path / name / "pictures").mkdir(parents=True)
        (tmp_path / name / "pictures" / "a.png").write_bytes(b"a")
        (tmp_path / name / "ledger.jsonl").write_text(name)
    one, other = tmp_path / "one", tmp_path / "other"
    assert batch.differences(one, other) == []
    (one / "pictures" / "b.png").touch()
    assert batch.differences(one, other) == ["pictures/b.png"]
    (other / "pictures" / "c.png").touch()
    (other / "pictures" / "a.png").write_bytes(b"b")
    assert batch.differences(one, other) == ["pictures/a.png", "pictures/b.png", "pictures/c.png"]

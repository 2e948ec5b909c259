"""The proof walks all its sections without a card, and says what went wrong where something did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import real_size
from benchmarks.performance.proof import __main__ as proof
from benchmarks.performance.proof import journal as journals
from benchmarks.performance.proof import models
from benchmarks.performance.proof.bench import Bench
from benchmarks.performance.proof.journal import Journal, OutOfTime, goal
from overpaint.checkpoints.files import weights
from tests import second_device

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("quick_garbage_search")


def walked(out: Path, *arguments: str) -> list[dict]:
    """Rows of a walk; none of them says that a section failed, or that a gate was missed."""
    proof.main([*arguments, "--tiny", "--out", str(out)])
    lines = (out / "proof.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row for row in rows if row["row"] in ("failed", "out of time")] == []
    assert [
        row for row in rows if "MISSED" in row.get("gate", "") or "NOT" in row.get("gate", "")
    ] == []
    return rows


def test_every_section_on_the_processor(tmp_path):
    rows = walked(tmp_path, "--device", "cpu")
    assert list(dict.fromkeys(row["section"] for row in rows)) == list(proof.SECTIONS)
    by_section = {name: [row for row in rows if row["section"] == name] for name in proof.SECTIONS}
    assert all(len(each) > 2 for each in by_section.values())
    failed = [row for row in rows if "Error" in str(row.get("note", ""))]
    assert {row["section"] for row in failed} <= {"attention", "products"}  # a card's own kernels
    assert any("0.00 of 255 from diffusers" in row.get("gate", "") for row in by_section["sd2"])
    assert {row.get("met", "-") for row in rows} == {"-"}
    table = (tmp_path / "proof.md").read_text(encoding="utf-8")
    assert all(row["row"] in table for row in rows)


def test_the_models_on_a_second_device(tmp_path):
    with second_device.plugged_in():
        sections = ("new sizes", "memory", "equal edits")
        rows = walked(tmp_path, "--device", "card:1", "--sections", *sections)
    assert {row["device"] for row in rows} == {"card:1"}
    assert not [row for row in rows if "Error" in str(row.get("note", ""))]


def test_from_a_source_tree(tmp_path):
    """No installed package, no path that says where it is."""
    code = """
import importlib.util, sys
assert importlib.util.find_spec("overpaint") is None, "it is installed here"
from benchmarks.performance.proof.__main__ import main
main(["--device", "cpu", "--tiny", "--sections", "equal edits", "--out", sys.argv[1]])
"""
    site = [each for each in sys.path if each.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(site)}
    done = subprocess.run(
        # -S: without the .pth file of an editable installation.
        [sys.executable, "-S", "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal, byte for byte") >= 2


class TestJournal:
    def test_rows_are_written_at_once(self, tmp_path):
        journal = Journal(tmp_path / "rows.jsonl", 60, {"device": "cpu"})

        def work():
            journal.add("one", gate="right")
            written = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
            assert json.loads(written[0]) == {
                "section": "first", "row": "one", "gate": "right", "device": "cpu",
            }  # fmt: skip

        journal.run("first", 60, work)
        assert [row["row"] for row in journal.rows] == ["one", "seconds of the section"]
        assert "| first | one |" in journal.table()

    def test_a_failure_is_a_row_and_the_next_section_begins(self, tmp_path):
        journal = Journal(tmp_path / "rows.jsonl", 60, {})

        def work():
            assert journal.attempt("half", lambda: {"ours s": 1 // 0}) is None
            assert journal.attempt("whole", lambda: {"ours s": 2}) == {"ours s": 2}
            raise RuntimeError("no card\nmore")

        journal.run("first", 60, work)
        journal.run("second", 60, lambda: journal.add("here"))
        rows = {row["row"]: row for row in journal.rows}
        assert "ZeroDivisionError" in rows["half"]["note"]
        assert rows["failed"]["note"] == "RuntimeError: no card"
        assert rows["here"]["section"] == "second"

    @pytest.fixture
    def clock(self, monkeypatch):
        """What the journals of a test look at; it stands still."""
        clock = SimpleNamespace(now=100.0)
        monkeypatch.setattr(journals, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    def test_a_section_ends_with_its_seconds_and_leaves_them_to_the_next(self, tmp_path, clock):
        journal = Journal(tmp_path / "rows.jsonl", 60, {})

        def work():
            clock.now += 0.5
            journal.check()  # what the quick one left
            journal.add("went on")
            clock.now += 1
            journal.check()
            journal.add("too late")

        journal.run("quick", 1, lambda: None)
        journal.run("slow", 0.3, work)
        rows = [row["row"] for row in journal.rows if row["section"] == "slow"]
        assert rows == ["went on", "out of time", "seconds of the section"]

    def test_what_hangs_is_interrupted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(journals, "GRACE", 0.1)
        journal = Journal(tmp_path / "rows.jsonl", 60, {})
        journal.run("hanging", 0.1, lambda: time.sleep(60))
        assert "interrupted" in journal.rows[0]["note"]

    def test_nothing_begins_after_the_end(self, tmp_path, clock):
        journal = Journal(tmp_path / "rows.jsonl", 0, {})
        clock.now += 0.01
        journal.run("late", 60, lambda: journal.add("it began"))
        assert [row["row"] for row in journal.rows] == ["out of time", "seconds of the section"]
        with pytest.raises(OutOfTime):
            journal.check()


def test_goals_count_on_a_real_card_alone():
    assert goal(1.0, 2.0, counts=True) == {"goal": 2.0, "met": "met"}
    assert goal(3.0, 2.0, counts=True)["met"] == "missed"
    assert goal(1.0, 2.0, counts=False)["met"] == "-"


class TestModels:
    def test_real_sizes_without_a_file_that_holds_them(self, tmp_path):
        folder = models.folder(tmp_path, "sd2", tiny=False)
        expected = sum(
            weight.numel()
            for part in real_size.layout("sd2").values()
            for weight in part.state_dict().values()
        )
        files = sorted(folder.glob("*/model.safetensors"))
        assert sum(weights.parameters(file) for file in files) == expected
        assert sum(file.stat().st_size for file in files) > 2 * expected
        assert sum(512 * file.stat().st_blocks for file in files) < 10_000_000

    def test_weights_depend_on_names_and_shapes_alone(self):
        made = [torch.nn.Linear(3000, 700, device="meta") for _ in range(2)]
        for each in made:
            assert models.fill(each, Path(), torch.bfloat16, "cpu")
        assert torch.equal(made[0].weight, made[1].weight)
        assert float(made[0].weight.detach().float().std()) == pytest.approx(3000**-0.5, rel=0.02)
        assert len(made[0].weight.detach().unique(dim=0)) == 700
        assert made[0].bias.abs().max() == 0

    def test_the_loader_is_what_it_was_afterwards(self, tmp_path):
        before = weights.load_into
        journal = Journal(tmp_path / "rows.jsonl", 60, {})
        bench = Bench(journal=journal, device=torch.device("cpu"), root=tmp_path, tiny=True)
        with bench.engine("sd2", dtype="float32") as engine:
            assert weights.load_into is not before
            checkpoint = engine.model().checkpoint
        assert weights.load_into is before
        assert checkpoint._loaded == {}

"""A batch: pictures, sheets and tables in a folder, and a second run that makes nothing twice."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from overpaint.core.errors import OutputError
from overpaint.jobs import batch as batch_
from overpaint.jobs.batch import Batch
from overpaint.jobs.output import pictures, predictions
from tests.conftest import picture
from tests.jobs.conftest import request, unit


@pytest.fixture
def made(tmp_path, make_engine):
    return Batch(out=tmp_path / "out", engine=make_engine("erase"))


def table(out) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_have_the_order_of_the_input_and_the_lineage(made):
    bad = unit(1, mask=None)
    done = made.run([unit(2), bad, unit(0)])
    assert [path.name for path in done.tables] == [
        "predictions.csv", "predictions.parquet", "timings.csv"
    ]  # fmt: skip
    rows = table(made.out)
    assert [row["source"] for row in rows] == ["row 2", "row 1", "row 0"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[0]["seed"] == "2"
    assert (made.out / rows[0]["picture"]).is_file()
    assert json.loads(rows[0]["recipe"])["seeds"] == [2]
    assert (rows[1]["code"], rows[1]["picture"]) == ("invalid_mask", "")
    assert rows[1]["reason"].startswith("mask: erase needs a mask")
    assert rows[0]["nsfw_content_detected"] == "", "nobody looked, which is not 'false'"

    columns = pq.read_table(made.out / "predictions.parquet").to_pylist()
    told = [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in columns
    ]
    assert told == rows, "both tables say the same"
    assert columns[0]["seed"] == 2
    with (made.out / "timings.csv").open(newline="", encoding="utf-8") as file:
        timings = list(csv.DictReader(file))
    assert [row["id"] for row in timings] == [row["id"] for row in rows]
    assert float(timings[0]["total_s"]) > 0
    assert timings[1]["total_s"] == ""


def test_a_second_run_makes_nothing_and_gives_the_same(made):
    made.run([unit(0), unit(1)])
    before = {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()}
    done = made.run([unit(0), unit(1)])
    assert (done.tally.computed, done.tally.skipped) == (0, 2)
    assert {path: path.read_bytes() for path in made.out.rglob("*") if path.is_file()} == before


def test_a_row_that_moved_is_not_made_again(made):
    made.run([unit(0), unit(1)])
    moved = [replace(unit(1), source="row 0"), replace(unit(0), source="row 1")]
    assert made.run(moved).tally.computed == 0
    assert [(row["source"], row["seed"]) for row in table(made.out)] == [
        ("row 0", "1"),
        ("row 1", "0"),
    ]


def test_only_the_first_rows(made):
    made.limit = 2
    assert made.run(unit(seed) for seed in range(5)).tally.finished_count == 2
    assert len(table(made.out)) == 2
    made.limit = None
    done = made.run(unit(seed) for seed in range(5))
    assert (done.tally.skipped, done.tally.computed, len(table(made.out))) == (2, 3, 5)
    made.limit = 1
    made.run(unit(seed) for seed in range(5))
    assert len(table(made.out)) == 5, "a look at the first rows does not shorten the table"


def test_many_files_are_spread_over_folders(made):
    made.subfolders = made.grids = True
    made.run([unit(0), unit(1)])
    for row in table(made.out):
        assert row["picture"].split("/")[1] == row["id"][:2]
        assert (made.out / row["picture"]).is_file()
        assert (made.out / row["picture"].replace("pictures", "grids", 1)).is_file()
    assert made.run([unit(0), unit(1)]).stale == []


def test_the_inputs_own_columns_come_through(made):
    columns = {"label": "a boat", "id": 7, "boxes": [1, 2]}
    rows = [replace(unit(0), extra={"image": "a.png", "columns": columns}), unit(1)]
    made.run(rows)
    names = ("image", "label", "input_id", "boxes")
    assert [[row[name] for name in names] for row in table(made.out)] == [
        ["a.png", "a boat", "7", "[1, 2]"],
        ["", "", "", ""],
    ]
    columns["label"] = "a ship"
    assert made.run(rows).tally.computed == 0
    assert [row["label"] for row in table(made.out)] == ["a ship", ""], "what the input says today"
    written = pq.read_table(made.out / "predictions.parquet").to_pylist()
    assert (written[0]["label"], written[1]["label"]) == ("a ship", None)


def test_what_no_row_names_is_counted_and_pruned(made):
    made.run([unit(0), unit(1)])
    (made.out / "pictures" / "mine.png").touch()
    assert len(made.run([unit(0)]).stale) == 1
    made.prune = True
    made.run([unit(0)])
    assert sorted(path.name for path in (made.out / "pictures").iterdir())[0] == "mine.png"
    assert len(list((made.out / "pictures").iterdir())) == 2, "and files of others stay"


def test_sheets_show_input_mask_and_output(made):
    made.run([unit(0)])
    made.grids = True
    made.run([unit(0), unit(1)])
    assert len(list((made.out / "grids").iterdir())) == 2, "the one from before, too"
    row = table(made.out)[0]
    with Image.open(made.out / row["picture"].replace("pictures", "grids")) as sheet:
        panels = [np.asarray(sheet.crop((left, 0, left + 64, 48))) for left in (0, 72, 144)]
        assert sheet.size == (64 * 3 + 16, 48)
    assert np.array_equal(panels[0], picture(64, 48, 0))
    assert np.array_equal(panels[1], request(0).mask.convert("RGB"))
    with Image.open(made.out / row["picture"]) as output:
        assert np.array_equal(panels[2], output.convert("RGB"))


def test_what_a_killed_process_left_is_removed(made):
    (made.out / "pictures").mkdir(parents=True)
    for name in (".overpaint-1.tmp", "pictures/.overpaint-2.tmp"):
        (made.out / name).touch()
    made.run([unit(0)])
    assert list(made.out.rglob("*.tmp")) == []


def test_killed_between_picture_and_ledger(made):
    """The picture is there, its line is not: it is made again, with the same bytes."""
    made.run([unit(0), unit(1)])
    ledger = made.out / "ledger.jsonl"
    pictures = {path: path.read_bytes() for path in (made.out / "pictures").iterdir()}
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0][:50])
    assert made.run([unit(0), unit(1)]).tally.computed == 2
    assert {path: path.read_bytes() for path in (made.out / "pictures").iterdir()} == pictures


def test_without_the_library_for_parquet(made, monkeypatch):
    monkeypatch.setattr(predictions, "has_parquet", lambda: False)
    assert [path.name for path in made.run([unit(0)]).tables] == ["predictions.csv", "timings.csv"]


def test_more_rows_than_are_in_memory_at_a_time(made, monkeypatch):
    monkeypatch.setattr(predictions, "ROW_GROUP", 2)
    made.run(unit(seed) for seed in range(5))
    whole = pq.ParquetFile(made.out / "predictions.parquet")
    assert whole.num_row_groups == 3
    assert whole.read().column("seed").to_pylist() == list(range(5))


def test_wider_passes_give_the_same_pictures(tmp_path, make_engine):
    """Within rounding: the promise of identical bytes is that of width 1."""
    engine = make_engine("sd2")
    options = {"prompt": "a kite", "options": {"num_inference_steps": 2}}
    pictures = {}
    for width in (1, 4):
        out = tmp_path / str(width)
        Batch(out=out, engine=engine, width=width).run(
            unit(seed, load=lambda seed=seed: request(seed, **options)) for seed in range(5)
        )
        pictures[width] = [
            np.asarray(Image.open(path), dtype=int) for path in sorted((out / "pictures").iterdir())
        ]
    differences = [np.abs(a - b).max() for a, b in zip(*pictures.values(), strict=True)]
    assert max(differences) <= 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../etc/x.png#3", "etc-x-3-"),
        ("a b/c.d.jpg", "a-b-c-d-"),
        ("ü/강아지.png", "ü-강아지-"),
        ("u\u0308.png", "ü-"),
        ("#.png", ""),
        ("x" * 300, "x" * 60 + "-"),
    ],
)
def test_names_of_files_are_harmless_and_readable(name, words):
    assert pictures.file_stem(replace(unit(0), id="0" * 32, source=name)) == words + "0" * 12


def test_names_of_files_fit_every_file_system():
    made = pictures.file_stem(
        replace(unit(0), id="0" * 32, source="\N{GRINNING FACE}강" * 100 + ".png")
    )
    assert len(made.encode()) < 200
    assert "강" in made


def test_a_folder_that_is_a_file(tmp_path, make_engine):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Batch(out=tmp_path / "file", engine=make_engine("erase")).run([unit(0)])


def test_tables_grow_while_it_runs_and_never_shrink(made, monkeypatch):
    monkeypatch.setattr(batch_, "TABLES_EVERY", 0.0)
    monkeypatch.setattr(batch_, "TABLES_SHARE", 0.0)
    units, seen = [unit(number) for number in range(3)], []

    def look(_) -> None:
        seen.append(len(table(made.out)) if (made.out / "predictions.csv").exists() else 0)

    made.on_progress = look
    made.run(units)
    assert seen == [0, 1, 2]
    seen.clear()
    made.run([*units, unit(3)])
    assert seen == [3, 3, 3, 3]
    assert len(table(made.out)) == 4

"""`overpaint batch` on the command line: what it prints, its exit codes, Ctrl-C."""

from __future__ import annotations

import csv
import json
import signal
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.batch import differences
from overpaint.apps.cli.bulk import report
from overpaint.jobs.book import Tally
from overpaint.jobs.ledger import LedgerEntry
from tests.apps.cli.test_processes import SLOW_STEPS, _wait, started
from tests.apps.conftest import HOLE, SIZE
from tests.conftest import box_mask, picture


@pytest.fixture
def photos(desk):
    for folder in ("photos", "masks"):
        (desk / folder).mkdir()
    for index, name in enumerate("abc"):
        picture(*SIZE, index).save(desk / "photos" / f"{name}.png")
        box_mask(*SIZE, HOLE).save(desk / "masks" / f"{name}.png")
    return desk / "photos"


ERASE = ("batch", "photos", "-o", "out", "--mask-dir", "masks", "--model", "erase")

TABLES = [f"out/{name}" for name in ("predictions.csv", "predictions.parquet", "timings.csv")]


def table(desk):
    with (desk / "out" / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder(overpaint, photos, desk):
    ran = overpaint(*ERASE, "--grid")
    assert ran.code == 0, ran.err
    assert ran.out.decode().splitlines() == TABLES
    assert ran.err.startswith("3 rows: 3 done; 3 in this run, ")
    assert [row["source"] for row in table(desk)] == ["a.png", "b.png", "c.png"]
    assert len(list((desk / "out" / "grids").iterdir())) == 3


def test_one_mask_and_one_source_of_texture_for_all_rows(overpaint, photos, desk):
    box_mask(*SIZE, HOLE).save(desk / "mask.png")
    ran = overpaint(
        "batch", "photos", "-o", "one", "--mask", "mask.png", "--model", "erase", "--json"
    )
    assert (ran.code, ran.json["done"]) == (0, 3), ran.err
    assert overpaint(*ERASE).code == 0
    for name in "abc":
        (one,), (each,) = ((desk / out).rglob(f"{name}*.png") for out in ("one", "out"))
        assert one.read_bytes() == each.read_bytes()
    refused = overpaint(*ERASE, "--control", "mask.png", "-o", "refused", "--json")
    assert refused.code == 2
    assert refused.json["error"]["field"] == "control", "which all rows would fail with"


def test_masks_and_words_beside_the_pictures(overpaint, photos, desk):
    for name in "ab":
        (desk / "masks" / f"{name}.png").rename(photos / f"{name}_mask.png")
    ran = overpaint("batch", "photos", "-o", "out", "--model", "erase", "--json")
    assert {name: ran.json[name] for name in ("done", "failed")} == {"done": 2, "failed": 1}
    assert [row["source"] for row in table(desk)] == ["a.png", "b.png", "c.png"]


def test_the_results_do_not_go_among_the_pictures(overpaint, photos):
    ran = overpaint("batch", "photos", "-o", "photos", "--model", "erase", "--json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "out")
    assert sorted(file.name for file in photos.iterdir()) == ["a.png", "b.png", "c.png"]


def test_a_toy_and_what_it_cannot_read_are_no_surprise_at_the_end(overpaint, photos, desk):
    (desk / "overpaint.toml").write_text("cache = 'cache'\ndtype = 'float32'\n")
    fast = ("--limit", "1", "--json", "-O", "num_inference_steps=1", "--prompt", "빨간 원")
    ran = overpaint("batch", "photos", "-o", "out", "--mask-dir", "masks", *fast)
    assert (ran.code, ran.json["done"]) == (0, 1)
    assert "'tiny-flex2' is a toy" in " ".join(ran.err.split())
    assert any("flex2 reads English" in each["example"] for each in ran.json["warnings"])


def test_the_summary_for_programs(overpaint, photos, desk):
    (desk / "masks" / "b.png").unlink()
    ran = overpaint(*ERASE, "--json")
    assert ran.code == 2
    left_aside = ("seconds", "reasons", "warnings")
    told = {key: value for key, value in ran.json.items() if key not in left_aside}
    assert told == {
        "output": "out",
        "tables": TABLES,
        "rows": 3,
        "done": 2,
        "failed": 1,
        "blocked": 0,
        "rejected": 0,
        "computed": 3,
        "errors": {"invalid_mask": 1},
        "stale": 0,
    }
    (reason,) = ran.json["reasons"]
    assert (reason["rows"], "there is no mask b.png" in reason["example"]) == (1, True)
    box_mask(*SIZE, HOLE).save(desk / "masks" / "b.png")
    again = overpaint(*ERASE, "--json")
    assert (again.code, again.json["done"], again.json["computed"]) == (0, 3, 1)


def test_failed_rows_are_tried_again_when_told(overpaint, photos, desk):
    for name in "abc":
        (desk / "masks" / f"{name}.png").write_text("words")
    first = overpaint(*ERASE)
    assert first.code == 2, "everything failed"
    assert "  3 × e.g. mask: masks/a.png is a text file, not a picture" in first.err
    again = overpaint(*ERASE, "--json")
    assert (again.code, again.json["computed"]) == (2, 0)
    assert overpaint(*ERASE, "--retry", "failed", "--json").json["computed"] == 3


def test_a_mistake_of_all_rows_is_said_before_the_first(overpaint, photos, desk):
    ran = overpaint(*ERASE, "-O", "fethaer=3", "--json")
    assert (ran.code, ran.json["error"]["field"]) == (2, "options.fethaer")
    assert not (desk / "out" / "ledger.jsonl").exists()


def test_shares_killed_and_joined_are_one_run(overpaint, photos, desk):
    """Shares of the work, one of them begun twice, end with the bytes of one run."""
    assert overpaint(*ERASE, "-o", "whole").code == 0
    for share in ("1/3", "2/3", "2/3", "3/3"):
        ran = overpaint(*ERASE, "--shard", share, "--json")
        assert (ran.code, ran.json["tables"]) == (0, []), ran.err
    joined = overpaint(*ERASE, "--json")
    assert (joined.code, joined.json["done"], joined.json["computed"]) == (0, 3, 0)
    assert differences(desk / "whole", desk / "out") == []
    assert [file.name for file in (desk / "out").glob("ledger*")] == ["ledger.jsonl"]
    again = overpaint(*ERASE, "--shard", "1/3", "--json")
    assert (again.code, again.json["computed"]) == (0, 0)


def test_formats_and_what_other_options_left(overpaint, photos, desk):
    (photos / "b.png").rename(photos / "b_.png")
    with Image.open(photos / "b_.png") as opened:
        opened.save(photos / "b.jpg", quality=90)
    (photos / "b_.png").unlink()
    assert overpaint(*ERASE, "--grid").code == 0
    ran = overpaint(*ERASE, "--format", "input", "--quality", "80")
    assert ran.code == 0, ran.err
    suffixes = [Path(row["picture"]).suffix for row in table(desk)]
    assert suffixes == [".png", ".jpg", ".png"]
    assert [row["image"] for row in table(desk)] == ["a.png", "b.jpg", "c.png"]
    assert "6 pictures of earlier options or inputs: left in the folder; --prune" in ran.err
    pruned = overpaint(*ERASE, "--format", "input", "--quality", "80", "--prune", "--json")
    assert (pruned.code, pruned.json["stale"], pruned.json["computed"]) == (0, 6, 0)
    left = {path.relative_to(desk / "out").as_posix() for path in desk.rglob("out/*/*")}
    assert left == {row["picture"] for row in table(desk)}


def test_the_status_of_a_folder(overpaint, photos, desk):
    missing = overpaint("batch", "--status", "out", "--json")
    assert (missing.code, missing.json["error"]["field"]) == (2, "status")
    (desk / "masks" / "b.png").unlink()
    overpaint(*ERASE)
    told = overpaint("batch", "--status", "out", "--json").json
    names = ("rows", "total", "done", "failed", "running")
    assert [told[name] for name in names] == [3, 3, 2, 1, []]
    plain = overpaint("batch", "--status", "out")
    assert plain.out.decode().startswith("3 of 3 rows: 2 done, 1 failed\n")
    assert "there is no mask b.png" in plain.err


def test_lines_of_progress_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(report, "LINE_EVERY", 0.0)
    tally = Tally()
    with report.RowBar(10, hidden=True) as bar:
        for status in ("done", "failed"):
            tally.count(LedgerEntry(id=status, status=status, source="a.png"))
            bar(tally)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1 of 10 rows, ")
    assert second.startswith("2 of 10 rows, 1 failed, ")


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ({"done": 2}, 0),
        ({"done": 1, "blocked": 1}, 0),
        ({"blocked": 2}, 2),
        ({"done": 1, "failed": 1}, 2),
        ({}, 0),
    ],
)
def test_exit_codes(statuses, code):
    assert report.exit_code(Tally(skipped=sum(statuses.values()), statuses=statuses)) == code


def test_blocked_rows_are_marked_and_never_computed(overpaint, photos, desk, checkpoint_folder):
    (desk / "words.toml").write_text('[[lists]]\nwords = ["blood"]\n')
    (desk / "overpaint.toml").write_text('[safety]\nblocklist = "words.toml"\n')
    lines = [
        {"image": f"photos/{name}.png", "mask": f"masks/{name}.png", "prompt": prompt}
        for name, prompt in (("a", "a kite"), ("b", "much blood"), ("c", "a boat"))
    ]
    (desk / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ran = overpaint(
        "batch", "m.jsonl", "-o", "out", "--model", checkpoint_folder("sd2"),
        "-O", "num_inference_steps=1", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert (ran.json["done"], ran.json["blocked"]) == (2, 1)
    assert ran.json["errors"] == {"content_blocked": 1}
    row = table(desk)[1]
    assert (row["status"], row["picture"], row["nsfw_content_detected"]) == ("blocked", "", "true")
    assert (row["code"], row["recipe"]) == ("content_blocked", "")
    assert len(list((desk / "out" / "pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("batch", "nowhere", "-o", "out"), "nowhere: no such file or folder"),
        (("batch", "photos", "-o", "out", "--mask-dir", "gone"), "gone is not a folder"),
        (("batch", "photos", "-o", "out", "--retry", "all"), "'all' is not a status"),
        (("batch", "photos"), "out: name a folder with -o"),
        (("batch", "-o", "out"), "input: name INPUT"),
        (("batch", "photos", "-o", "out", "--shard", "4/3"), "'4/3' is not a share of the rows"),
        (("batch", "photos", "-o", "out", "--format", "gif"), "'gif' is not one of png"),
        (("batch", "photos", "-o", "out", "--quality", "3"), "PNG keeps every pixel"),
        (("batch", "photos", "-o", "out", "--prune", "--limit", "2"), "--limit does not look at"),
        (("batch", "photos", "-o", "out", "--model", "nothing"), "there is no model 'nothing'"),
        (("batch", "photos", "-o", "out", "-M", "erase"), "mask: erase needs a mask"),
        (("batch", "photos", "-o", "out", "--width", "9"), "'9' is neither auto nor a number"),
        (("batch", "photos", "-o", "photo.png", "--mask-dir", "masks", "-M", "erase"), "photo.png"),
    ],
)
def test_what_cannot_be_done(overpaint, photos, desk, arguments, said):
    ran = overpaint(*arguments)
    assert ran.code == 2
    assert said in ran.err
    assert not (desk / "out").exists()


def test_ctrl_c_and_the_same_command_again(photos, desk, tmp_path, checkpoint_folder, overpaint):
    arguments = [
        "batch", "photos", "-o", "out", "--mask-dir", "masks", "--prompt", "a kite",
        "--model", str(checkpoint_folder("sd2")), "--dtype", "float32",
        "-O", "num_inference_steps=3",
    ]  # fmt: skip
    slow = SLOW_STEPS.replace("MARKER", str(tmp_path / "stepping"))
    with started(sys.executable, "-c", slow, *arguments) as process:
        _wait(process, lambda: len(list(desk.glob("out/pictures/*.png"))) > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, b"")
    first, last = err.decode().splitlines()
    assert first.endswith(" of 3 rows are done; run the same command to continue.")
    assert last == "Cancelled."
    assert not list(desk.glob("out/**/*.tmp"))
    made = int(first.split()[0])

    again = overpaint(*arguments, "--json")
    assert again.code == 0, again.err
    assert (again.json["done"], again.json["computed"]) == (3, 3 - made)


def test_a_second_ctrl_c_ends_a_batch_in_mid_step(photos, desk, tmp_path, checkpoint_folder):
    """The threads that nobody waits for any more do not abort the process."""
    stepping = tmp_path / "stepping"
    with started(
        sys.executable, "-c", SLOW_STEPS.replace("MARKER", str(stepping)),
        "batch", "photos", "-o", "out", "--mask-dir", "masks", "--prompt", "a kite",
        "--model", str(checkpoint_folder("sd2")), "--dtype", "float32",
    ) as process:  # fmt: skip
        _wait(process, stepping.exists)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "Cancelled."

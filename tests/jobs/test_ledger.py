"""The ledger: what is written is found again, whatever happened to the file's end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from overpaint.core.errors import OutputError
from overpaint.jobs.ledger import Ledger, LedgerEntry


def entry(unit="a", status="done", **values) -> LedgerEntry:
    return LedgerEntry(id=unit, status=status, source=f"{unit}.png", **values)


def test_what_is_written_is_found_again(tmp_path):
    written = entry(prompt="żółw 🐢\n", seed=2**40, recipe={"x": [1.5]}, flagged=False, attempts=2)
    with Ledger(tmp_path / "deep" / "ledger.jsonl") as ledger:
        ledger.append(written)
        assert ledger.get("a") == written
    with Ledger(tmp_path / "deep" / "ledger.jsonl") as ledger:
        assert ledger.get("a") == written
        assert (len(ledger), ledger.status("a"), ledger.attempts("a")) == (1, "done", 2)
        assert (ledger.get("b"), ledger.status("b"), ledger.attempts("b")) == (None, None, 0)


def test_the_last_line_of_a_unit_holds(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        ledger.append(entry(status="failed", code="out_of_memory"))
        ledger.append(entry(status="done", attempts=2))
    with Ledger(tmp_path / "l") as ledger:
        assert (len(ledger), ledger.status("a"), ledger.attempts("a")) == (1, "done", 2)


def test_torn_anywhere_only_the_last_unit_is_lost(tmp_path):
    """Cut at every byte of the last line: the first unit stays, and writing goes on."""
    file = tmp_path / "l"
    with Ledger(file) as ledger:
        ledger.append(entry("a"))
        first = file.stat().st_size
        ledger.append(entry("b"))
    whole = file.read_bytes()
    for length in range(first, len(whole) + 1):
        file.write_bytes(whole[:length])
        # Without its line break alone, the line says all that it has to say.
        expected = ("done", "done" if length >= len(whole) - 1 else None)
        with Ledger(file) as ledger:
            assert (ledger.status("a"), ledger.status("b")) == expected, length
            ledger.append(entry("c"))
        with Ledger(file) as ledger:
            assert (ledger.status("a"), ledger.status("b")) == expected, length
            assert ledger.get("c") == entry("c")


@pytest.mark.parametrize(
    "line", [b"\0\0\0\n", b"[]\n", b"{}\n", b'{"id": "b"}\n', b'"x"\n', b"\xff\n", b"[" * 9999]
)
def test_lines_of_something_else_are_not_counted(tmp_path, line):
    file = tmp_path / "l"
    with Ledger(file) as ledger:
        ledger.append(entry("a"))
    file.write_bytes(line + file.read_bytes() if line.endswith(b"\n") else file.read_bytes() + line)
    with Ledger(file) as ledger:
        assert (len(ledger), ledger.get("a")) == (1, entry("a"))


def test_blank_lines_change_nothing(tmp_path):
    file = tmp_path / "l"
    with Ledger(file) as ledger:
        ledger.append(entry("a"))
        ledger.append(entry("b", status="failed", attempts=3))
    file.write_bytes(b"\n" + file.read_bytes().replace(b"\n", b"\n\n  \n"))
    with Ledger(file) as ledger:
        ledger.append(entry("c"))
        assert (len(ledger), ledger.attempts("b")) == (3, 3)
        assert [ledger.get(name).id for name in "abc"] == ["a", "b", "c"]


def test_fields_of_a_later_version_are_left_aside(tmp_path):
    file = tmp_path / "l"
    file.write_bytes(b'{"id": "a", "status": "done", "source": "a.png", "later": 1}\n')
    with Ledger(file) as ledger:
        assert ledger.get("a") == entry("a")


def test_one_process_at_a_time(tmp_path):
    with Ledger(tmp_path / "l"):
        code = (
            "import sys, pathlib, overpaint.jobs.ledger as l; l.Ledger(pathlib.Path(sys.argv[1]))"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "l"], capture_output=True, check=False
        )
    assert b"another run is writing to" in ran.stderr


def test_another_ledger_is_taken_in_once(tmp_path):
    with Ledger(tmp_path / "share.jsonl") as share:
        share.append(entry("a", attempts=2))
        share.append(entry("b"))
        with (
            Ledger(tmp_path / "ledger.jsonl") as ledger,
            pytest.raises(OutputError, match="another run is writing"),
        ):
            ledger.absorb(tmp_path / "share.jsonl")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append(entry("a", "failed"))
        ledger.append(entry("b", "failed", attempts=3))
        for _ in range(2):
            ledger.absorb(tmp_path / "share.jsonl")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        assert len(ledger) == 2
        assert [ledger.status("a"), ledger.status("b")] == ["done", "failed"], "the later one holds"
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 3


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "ledger.jsonl")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from overpaint.core.errors import OutputError
from overpaint.jobs.ledger import LedgerEntry, Ledger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
try:
    with Ledger(Path(sys.argv[1])) as ledger:
        for number in range(9):
            ledger.append(LedgerEntry(id=str(number), status="done", source="a.png"))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes")
def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path):
    path = tmp_path / "ledger.jsonl"
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], check=True, capture_output=True, text=True
    )
    assert "cannot be written" in told.stdout
    assert path.read_bytes().endswith(b"\n")
    with Ledger(path) as ledger:
        assert 1 < len(ledger) < 9

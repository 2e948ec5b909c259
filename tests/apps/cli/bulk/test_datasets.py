"""`overpaint collect` and `overpaint clean` on the command line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from overpaint.apps.cli.commands import app
from tests.datasets.conftest import noisy

PICTURES = 8

ERASE: dict[str, Any] = {
    "model": "erase",
    "sources": [{"folder": "in", "licence": "CC0-1.0"}],
    "edit": {"mask": {"box": [0.3, 0.3, 0.6, 0.6]}},
    "exact": {"exposure": 0.4},
    "gate": {"new_issues": False},
}

EXPOSED: dict[str, Any] = {"sources": [{"folder": "in"}], "exact": {"exposure": 0.4}}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(PICTURES):
        noisy(number, (96, 80)).save(folder / f"{number}.png")
    (tmp_path / "overpaint.toml").write_text("dtype = 'float32'\n")
    monkeypatch.setenv("OVERPAINT_CONFIG", str(tmp_path / "overpaint.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(desk: Path, recipe: dict[str, Any]) -> str:
    (desk / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return "recipe.yaml"


def run(*words: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_clean_and_again(desk: Path) -> None:
    before = {path.name: path.read_bytes() for path in (desk / "in").iterdir()}
    code, told = run("clean", write(desk, ERASE), "-o", "out")
    assert code == 0, told
    assert (told["kept"], told["computed"], told["endings"]) == (8, 8, {"edited": 8})
    assert (desk / "out/report.html").is_file()
    metadata = (desk / "out/data/imagefolder/train/metadata.jsonl").read_text().splitlines()
    assert {json.loads(line)["model"] for line in metadata} == {"erase"}
    assert json.loads((desk / "out/recipe.json").read_text())["model"] == "erase"
    code, told = run("clean", "recipe.yaml", "-o", "out")
    assert (code, told["computed"]) == (0, 0)
    assert {path.name: path.read_bytes() for path in (desk / "in").iterdir()} == before


def test_a_source_that_seems_unchanged_is_not_hashed_again(desk: Path) -> None:
    source = desk / "in/0.png"
    picture = source.read_bytes()
    write(desk, EXPOSED)
    computed = []
    for end, words in (("a", []), ("b", []), ("b", ["--verify"])):
        source.write_bytes(picture + end.encode())
        os.utime(source, (1000, 1000))
        _, told = run("clean", "recipe.yaml", "-o", "out", *words)
        computed.append(told["computed"])
    assert computed == [PICTURES, 0, 1]


def test_what_cleaning_would_take(desk: Path) -> None:
    code, told = run("clean", write(desk, ERASE), "--dry-run", "--limit", "5")
    assert code == 0, told
    assert told["pictures"] == 5
    assert told["by"] == ["exact: {'exposure': 0.4}", "edit: with the mask"]
    assert told["one picture"].endswith("done")
    assert not (desk / "ledger.jsonl").exists()


def test_collect_with_a_checkpoint(desk: Path, checkpoint_folder: Any) -> None:
    recipe = {
        "model": str(checkpoint_folder("sd2")),
        "sources": [{"folder": "in"}],
        "prompt": "a {colour} circle",
        "axes": {"colour": ["red", "blue"]},
        "mask": {"box": [0.2, 0.2, 0.8, 0.8]},
        "options": {"num_inference_steps": 2},
    }
    code, told = run("collect", write(desk, recipe), "-o", "out", "--set", "quota=2")
    assert code == 0, told
    assert (told["kept"], told["missing"], told["left_out"]) == (4, {}, {})
    code, told = run("collect", "recipe.yaml", "--dry-run", "--set", "quota=3")
    assert code == 0
    assert (told["cells"], told["pictures wanted"]) == (2, 6)
    assert told["prompts"] == ["a red circle", "a blue circle"]
    assert "s, " in told["one picture"]
    assert any("licence" in note for note in told["notes"])


@pytest.mark.parametrize(
    ("changes", "words", "field"),
    [
        ({"sources": [{"folder": "gone"}]}, [], "recipe.sources.0.folder"),
        ({"modle": "erase"}, [], "recipe.modle"),
        ({"model": "no-such-model"}, [], "model"),
        ({"revision": "abc"}, [], "recipe.revision"),
        ({"safety": "required"}, [], "recipe.safety"),
        ({}, ["--set", "edit.mask.box=[1]"], "recipe.edit.mask.box.1"),
        ({}, ["-o", "in"], "output"),
        ({}, ["-o", "in/deeper"], "output"),
        ({}, ["-o", "."], "output"),
        ({}, ["--retry", "never"], "retry"),
        ({}, ["--prune", "--limit", "2"], "prune"),
        ({"options": {"fethaer": 3}}, [], "recipe.options.fethaer"),
        ({"edit": {}}, [], "recipe.edit.mask"),
        ({"edit": {"prompt": "a cat"}}, [], "recipe.edit.prompt"),
        ({"negative_prompt": "a dog"}, [], "recipe.negative_prompt"),
        ({"references": ["in/0.png"]}, [], "recipe.references"),
    ],
)
def test_what_is_refused(desk: Path, changes: dict[str, Any], words: list[str], field: str) -> None:
    code, told = run("clean", write(desk, ERASE | changes), "-o", "out", *words)
    assert (code, told["error"]["field"]) == (2, field)


def test_a_rule_that_no_picture_could_follow_is_refused(desk: Path) -> None:
    recipe = {
        "model": "erase",
        "sources": [{"folder": "in"}],
        "vision": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
        "look": {"labels": ["kite"]},
        "rules": [{"when": "kite", "do": "erase", "options": {"fethaer": 3}}],
    }
    code, told = run("clean", write(desk, recipe), "-o", "out")
    assert (code, told["error"]["field"]) == (2, "recipe.rules.0.options.fethaer")
    assert not (desk / "out/ledger.jsonl").exists()


def test_pictures_that_fail_are_told_with_their_reasons(desk: Path) -> None:
    (desk / "in/bad.png").write_bytes(b"no picture")
    code, told = run("clean", write(desk, EXPOSED), "-o", "out", "--limit", "3")
    assert (code, told["reasons"]) == (0, [])
    code, told = run("clean", "recipe.yaml", "-o", "out")
    assert (code, told["kept"], told["left_out"]) == (2, 8, {"failed": 1})
    (reason,) = told["reasons"]
    assert reason["rows"] == 1
    assert reason["example"] == rejected(desk / "out")[0]["reason"]


def rejected(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


def test_where_all_are_left_out_it_is_no_success(desk: Path) -> None:
    recipe = EXPOSED | {"filters": {"least_side": 5000}}
    code, told = run("clean", write(desk, recipe), "-o", "out", "--limit", "2")
    assert (code, told["kept"]) == (2, 0)


def test_a_server_that_is_not_there_ends_the_run(desk: Path) -> None:
    for number in range(PICTURES, 30):
        noisy(number, (32, 32)).save(desk / f"in/{number}.png")
    recipe = {
        "model": "erase",
        "sources": [{"folder": "in"}],
        "vision": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "retries": 0},
        "look": {"labels": ["kite"]},
        "rules": [{"when": "kite", "do": "erase"}],
    }
    code, told = run("clean", write(desk, recipe), "-o", "out")
    assert (code, told["error"]["code"]) == (1, "run_stopped")
    assert "--retry failed" in told["error"]["message"]
    lines = (desk / "out/ledger.jsonl").read_text().splitlines()
    assert len(lines) < 30, "it does not try them all"


def test_leftovers_are_told_and_pruned(desk: Path) -> None:
    def made() -> set[Path]:
        return set((desk / "out/made").glob("??/*.png"))

    recipe = write(desk, EXPOSED | {"exact": {"exposure": 0.2}})
    code, told = run("clean", recipe, "-o", "out")
    assert (code, told["stale"]) == (0, 0)
    earlier = made()
    assert earlier
    recipe = write(desk, EXPOSED)
    code, told = run("clean", recipe, "-o", "out")
    assert (code, told["stale"]) == (0, len(earlier))
    later = made() - earlier
    code, told = run("clean", recipe, "-o", "out", "--prune")
    assert (code, told["stale"], told["computed"]) == (0, len(earlier), 0)
    assert made() == later
    code, told = run("clean", recipe, "-o", "out")
    assert (code, told["stale"], told["computed"]) == (0, 0, 0)


def test_the_schema_for_editors() -> None:
    code, told = run("collect", "--schema")
    assert code == 0
    assert {"prompt", "axes", "quota", "sources"} <= set(told["properties"])


def test_one_run_at_a_time(desk: Path) -> None:
    from overpaint.jobs.ledger import Ledger

    with Ledger(desk / "out/ledger.jsonl"):
        code, told = run("clean", write(desk, ERASE), "-o", "out")
    assert (code, told["error"]["code"]) == (2, "output_error")


def fingerprint(out: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted((out / "data").rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def test_killed_at_any_moment_the_data_set_is_the_same(desk: Path) -> None:
    recipe = write(desk, ERASE)
    run("clean", recipe, "-o", "whole")
    command = [sys.executable, "-m", "overpaint", "clean", recipe, "-o", "out", "--json"]
    ledger = desk / "out/ledger.jsonl"
    environment = dict(os.environ)
    for lines in (1, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        while process.poll() is None:
            if ledger.exists() and ledger.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, told = run("clean", recipe, "-o", "out")
    assert (code, told["kept"]) == (0, 8)
    ids = [json.loads(line)["id"] for line in ledger.read_text().splitlines() if line]
    assert len(ids) == len(set(ids)) == 8
    assert fingerprint(desk / "out") == fingerprint(desk / "whole")

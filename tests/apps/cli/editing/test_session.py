"""`overpaint session …`, with the bundled eraser and tiny random checkpoints."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from overpaint.apps import settings as settings_
from overpaint.apps.wiring import sessions
from overpaint.apps.wiring.models import build
from overpaint.sessions import Editor, database
from overpaint.sessions.types import stamp
from tests import faulty_family
from tests.apps.conftest import pixels
from tests.conftest import picture
from tests.faults import Fault

FEW = ("-O", "num_inference_steps=2", "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def session(overpaint):
    """A session named photo."""
    made = overpaint("session", "new", "photo.png", "--json")
    assert made.code == 0, made.err
    return made.json


@pytest.fixture
def erased(overpaint, session):
    """The same, with one erased turn."""
    done = overpaint("session", "edit", "photo", "--mask", "mask.png", "--seed", 1, "--json")
    assert done.code == 0, done.err
    return done.json


def test_new_keeps_the_picture(overpaint, session):
    assert (session["name"], session["head"], session["revision"]) == ("photo", "0", 1)
    assert overpaint("session", "show", "photo", "-o", "again.png").code == 0
    assert (pixels("again.png") == pixels("photo.png")).all()


def test_edit_without_words_erases(overpaint, erased):
    assert erased["id"] == "1"
    assert erased["kind"] == "erase"
    assert erased["model"] == "erase"
    assert erased["measures"]["previous"]["kept_identical"] == 1


def test_edit_by_instruction_takes_references(overpaint, session, checkpoint_folder):
    picture(48, 48, seed=5).save("face.png")
    model = ("-M", checkpoint_folder("kontext"), *FEW)
    done = overpaint(
        "session", "edit", "photo", "a cat", "--reference", "face.png", *model, "-n", 2, "--json"
    )
    assert done.code == 0, done.err
    assert done.json["kind"] == "edit"
    assert done.json["candidates"] == 2
    assert len(done.json["references"]) == 1
    shown = overpaint("session", "show", "photo")
    assert "the best of 2; the others are 2" in shown.err


def test_areas_are_listed_and_kept(overpaint, session, monkeypatch):
    before = pixels("photo.png").copy()
    after = before.copy()
    after[4:60, 4:60] = (200, 30, 30)
    after[-12:-4, -12:-4] = (30, 30, 200)
    engine = faulty_family.engine(after, Fault())
    monkeypatch.setattr(build, "engine", lambda *_, **__: engine)
    store = sessions.store(settings_.load())
    Editor.with_engine(engine, store=store).edit(session["id"], "do it", seed=1)
    store.close()
    listed = overpaint("session", "areas", "photo", "--json").json["areas"]
    assert [each["kept"] for each in listed] == [True, False]
    assert "put back" in overpaint("session", "areas", "photo").out.decode()
    kept = overpaint("session", "areas", "photo", "--keep", "2", "--json")
    assert [each["kept"] for each in kept.json["measures"]["edit"]["areas"]] == [False, True]
    assert overpaint("session", "areas", "photo", "--keep", "0").code == 0
    assert overpaint("session", "show", "photo", "-o", "none.png").code == 0
    assert (pixels("none.png") == before).all()
    for words, said in (("7", "no area 7"), ("all", "is not like 1,3")):
        refused = overpaint("session", "areas", "photo", "--keep", words)
        assert refused.code == 2
        assert said in refused.err


def test_undo_redo_branch(overpaint, erased):
    assert overpaint("session", "undo", "photo", "--json").json["head"] == "0"
    refused = overpaint("session", "undo", "photo")
    assert refused.code == 2
    assert "nothing to undo" in refused.err
    assert overpaint("session", "redo", "photo", "--json").json["head"] == "1"
    assert overpaint("session", "branch", "photo", 0, "--json").json["head"] == "0"
    again = overpaint("session", "edit", "photo", "--mask", "mask.png", "--json").json
    assert again["parent"] == "0"
    tree = overpaint("session", "log", "photo").out.decode()
    assert tree.count("erased") == 2
    assert "2  erased ◀ here" in tree


def test_the_list_fits_a_terminal_of_80_columns(overpaint, erased):
    head, line = overpaint("session", "list").out.decode().splitlines()
    assert head.split() == ["name", "id", "turns", "at", "MB", "begun", "changed"]
    name, id_, *_, day, time = line.split()
    assert name == "photo"
    assert overpaint("session", "show", id_).code == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", f"{day} {time}")
    assert "…" not in line


def test_list_rename_delete(overpaint, session):
    assert overpaint("session", "rename", "photo", "the dog").code == 0
    assert b"the dog" in overpaint("session", "list").out
    assert overpaint("session", "list", "--search", "DOG", "--json").json["sessions"]
    assert overpaint("session", "list", "--search", "%", "--json").json["sessions"] == []
    found = overpaint("session", "list", "--limit", "1", "--json").json["sessions"]
    assert [each["id"] for each in found] == [session["id"]]
    assert overpaint("session", "delete", session["id"][:8]).code == 0
    assert overpaint("session", "list", "--json").json["sessions"] == []


def test_compare(overpaint, erased):
    measured = overpaint("session", "compare", "photo", 0, "--json").json
    assert 0 < measured["changed"] < 0.5
    head, first, *_ = overpaint("session", "compare", "photo", 0, 1).out.splitlines()
    assert head.split(b"  ")[-1] == b"turns 0 and 1"
    assert first.startswith(b"pixels that differ")


def test_export_and_import(overpaint, erased):
    assert overpaint("session", "export", "photo", "-o", "photo.zip").code == 0
    came = overpaint("session", "import", "photo.zip", "--json")
    assert came.code == 0, came.err
    assert [turn["id"] for turn in came.json["turns"]] == ["0", "1"]
    twice = overpaint("session", "show", "photo")
    assert "2 sessions fit 'photo'" in twice.err
    assert twice.err.count("(changed 20") == 2, "dates tell them apart"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nothing"), "there is no session 'nothing'"),
        (("show", "photo", "7"), "there is no turn '7'; 'photo' has turn 0 alone"),
        (("import", "photo.png"), "not a ZIP file"),
        (("import", "nothing.zip"), "cannot be read"),
        (("rename", "photo", " "), "1 to 200 characters"),
        (("edit", "photo", "--from", "3"), "there is no turn '3'"),
    ],
)
def test_errors_are_sentences(overpaint, session, arguments, said):
    failed = overpaint("session", *arguments)
    assert failed.code == 2
    assert said in failed.err


def test_the_list_says_how_large_each_is(overpaint, erased):
    (listed,) = overpaint("session", "list", "--json").json["sessions"]
    kept = overpaint("session", "show", "photo", "-o", "kept.png")
    assert kept.code == 0
    assert listed["bytes"] > Path("kept.png").stat().st_size
    assert f"{listed['bytes'] / 1e6:.1f}" in overpaint("session", "list").out.decode()


def test_prune_deletes_what_nobody_changed_for_long(overpaint, session, aged):
    other = overpaint("session", "new", "photo.png", "--name", "other", "--json").json
    aged(session["id"], days=40)
    looked = overpaint("session", "prune", "--older-than", "30", "--dry-run", "--json").json
    assert (looked["sessions"], looked["deleted"]) == ([session["id"]], False)
    pruned = overpaint("session", "prune", "--older-than", "30", "--json").json
    assert (pruned["sessions"], pruned["deleted"]) == ([session["id"]], True)
    left = overpaint("session", "list", "--json").json["sessions"]
    assert [each["id"] for each in left] == [other["id"]]
    assert overpaint("session", "show", "other", "-o", "still.png").code == 0


def test_prune_frees_pictures_that_no_session_has(overpaint, session, aged):
    aged(session["id"], days=2)
    assert overpaint("session", "prune", "--json").json["freed_bytes"] == 0
    pruned = overpaint("session", "prune", "--older-than", "1", "--json").json
    assert pruned["freed_bytes"] > 0
    refused = overpaint("session", "prune", "--search", "x", "--json")
    assert (refused.code, refused.json["error"]["field"]) == (2, "search")


@pytest.fixture
def aged():
    """Makes a session look as if nobody had changed it for so many days, its files too."""

    def age(id_, *, days) -> None:
        settings = settings_.load()
        store = sessions.store(settings)
        then = datetime.now(UTC) - timedelta(days=days)
        with store._transaction() as connection:
            row = database.sessions.c.id == id_
            values = {"updated": stamp(then)}
            connection.execute(database.sessions.update().where(row).values(**values))
        for path in store.pictures.folder.glob("*/*"):
            os.utime(path, (then.timestamp(), then.timestamp()))
        store.close()

    return age

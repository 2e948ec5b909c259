"""Turns that let the picture grow: kept, measured on the picture's own area, made again."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import images
from overpaint.sessions import Editor, Store, archive
from overpaint.sessions.types import Turn
from tests.conftest import box_mask, picture

SIDE = 64
MASK = box_mask(SIDE, SIDE, box=(4, 4, 20, 20))


@pytest.fixture
def editor(store, make_engine):
    return Editor.with_engine(make_engine("erase"), store=store)


def test_a_turn_grows_is_measured_and_undone(store, editor):
    session = editor.new(picture(SIDE, SIDE))
    editor.edit(session.id, mask=MASK, seed=1)
    session, turn = editor.edit(session.id, extend={"left": 16, "top": "25%"}, seed=2)
    assert (turn.kind, turn.verdict, turn.inputs["extend"]) == (
        "extend",
        "done",
        {"left": 16, "top": 16},
    )
    assert editor.picture(turn).size == (80, 80)
    for beside in ("previous", "original"):
        assert turn.measures[beside]["kept_identical"] == 1.0
        assert turn.measures[beside]["kept_psnr"] == 99.0
    touched = np.asarray(images.decode_mask(store.pictures.get(turn.touched)))
    assert (touched[:16] == 255).all()
    assert (touched[:, :16] == 255).all()
    assert touched[16 + 10, 16 + 10] == 255  # what was erased before
    assert touched[70, 70] == 0
    # A turn after it is measured beside the original, which is smaller.
    session, after = editor.edit(session.id, mask=box_mask(80, 80, box=(40, 40, 60, 60)), seed=3)
    assert after.measures["original"]["kept_identical"] == 1.0
    assert editor.picture(editor.undo(session.id).turn()).size == (80, 80)
    assert editor.picture(editor.undo(session.id).turn()).size == (SIDE, SIDE)


def test_it_is_measured_later_as_it_is_at_once(store, editor):
    session = editor.new(picture(SIDE, SIDE))
    _, turn = editor.edit(session.id, extend={"right": 20}, seed=2)
    start = editor.start(session.id, "", parent="0")
    request = editor_request(editor, start)
    start = editor.reserve(start, 1)
    session, (later,) = editor.record(start, request, editor.run_edit(request), measure_now=False)
    editor.measure(session, [later])
    assert store.get(session.id).turn(later.id).measures == turn.measures


def editor_request(editor, start):
    from overpaint.engine.intake import request_of

    values = start.parts({"extend": {"right": 20}, "seed": 2}, editor.picture(start.base))
    return request_of(values)


def test_the_own_border_of_a_picture(store, editor):
    framed = picture(SIDE, SIDE).convert("RGBA")
    framed.putalpha(box_mask(SIDE, SIDE, box=(10, 0, SIDE, SIDE)))
    session = editor.new(framed)
    session, turn = editor.edit(session.id, extend={}, seed=2)
    assert (turn.kind, turn.inputs["extend"]) == ("extend", {})
    assert turn.measures["previous"]["kept_identical"] == 1.0
    assert editor.again(session.id, turn.id).pictures[0].sha256 == editor.picture(turn).sha256


def test_it_is_made_again_and_comes_through_an_archive(tmp_path, store, editor):
    session = editor.new(picture(SIDE, SIDE))
    session, turn = editor.edit(session.id, extend={"to": "2:1"}, mask=MASK, seed=2)
    assert editor.again(session.id, turn.id).pictures[0].sha256 == editor.picture(turn).sha256
    file = io.BytesIO()
    archive.export(store, session, file)
    elsewhere = Store(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other" / "pictures")
    try:
        seen = []
        assert archive.load(elsewhere, file, seen.append).turns[-1] == turn
        assert seen[-1].extend.as_json() == {"left": 32, "right": 32}
        too_much = {"left": 500}
        with pytest.raises(InvalidRequest, match="grew by more than its picture has"):
            archive.load(elsewhere, changed(file, too_much), seen.append)
        with pytest.raises(InvalidRequest, match="damaged: extend"):
            archive.load(elsewhere, changed(file, {"left": -1}), seen.append)
    finally:
        elsewhere.close()


def changed(file: io.BytesIO, extend: dict) -> io.BytesIO:
    """The archive with another border in its last turn."""
    other = io.BytesIO()
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(other, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name == "session.json":
                index = json.loads(data)
                index["turns"][-1]["extend"] = extend
                data = json.dumps(index).encode()
            after.writestr(name, data)
    return other


@pytest.mark.parametrize("value", ["20%", {"left": "20%"}, {"far": 1}, [1]])
def test_a_turn_keeps_pixels_alone(value):
    whole = Turn(
        id="1", parent="0", kind="extend", created="", picture="p", thumbnail="t"
    ).as_json()
    assert Turn.from_json({**whole, "extend": {"left": 3}}).borders.left == 3
    with pytest.raises(ValueError, match="extend"):
        Turn.from_json({**whole, "extend": value})


def test_the_original_cannot_be_edited_again_past_a_border(editor):
    session = editor.new(picture(SIDE, SIDE))
    session, _ = editor.edit(session.id, extend={"left": 8}, seed=2)
    with pytest.raises(InvalidRequest, match="a mask or a border"):
        editor.edit(session.id, "make it red", from_original=True)

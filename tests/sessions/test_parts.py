"""A turn keeps every part of its edit: stored, exported, shown, and made again from it."""

from __future__ import annotations

import io
import json
from dataclasses import fields

import pytest

from overpaint.apps.server.bodies.session_schemas import TurnInfo
from overpaint.core.errors import InvalidRequest
from overpaint.core.types import PARTS
from overpaint.sessions import Editor, Store, archive
from overpaint.sessions.editing import again
from overpaint.sessions.types import INPUTS, OWN, Turn
from tests.conftest import picture
from tests.every_part import FAMILIES_AND_PARTS, needed, png, sample

SIDE = 64


def values_of(spec, part):
    values = {each.name: sample(each, (SIDE, SIDE)) for each in needed(spec, part)}
    steps = {"num_inference_steps": 2} if spec.components else {}
    return values.pop("prompt", ""), {**values, **steps, "seed": 3}


def begun(store, engine):
    editor = Editor.with_engine(engine, store=store)
    return editor, editor.new(picture(SIDE, SIDE))


def test_a_part_is_an_input_or_has_a_field_of_its_own():
    names = {field.name for field in fields(Turn)}
    for part in PARTS:
        assert (part in INPUTS) != bool(OWN.get(part.name))
        assert part not in INPUTS or part.name not in names


@pytest.mark.parametrize(("spec", "part"), FAMILIES_AND_PARTS)
def test_a_turn_keeps_what_its_edit_was_given(
    tmp_path, store, make_engine, checkpoint_folder, spec, part
):
    # klein's distilled checkpoints take no negative prompt.
    variant = "klein_base" if (spec.name, part.name) == ("klein", "negative_prompt") else spec.name
    engine = make_engine(spec.name, checkpoint_folder(variant) if spec.components else None)
    editor, session = begun(store, engine)
    words, values = values_of(spec, part)
    if spec.need(part.name) == "refused":
        with pytest.raises(InvalidRequest) as caught:
            editor.edit(session.id, words, **values)
        assert caught.value.field == part.name
        assert len(store.get(session.id).turns) == 1
        return
    session, turn = editor.edit(session.id, words, **values)
    if part in INPUTS:
        stored = [store.pictures.get(key) for key in turn.files_of(part)]
        several = values[part.name] if part.kind == "pictures" else (values[part.name],)
        expected = map(png, several) if part.is_visual else ()
        assert [pixels(each) for each in stored] == [pixels(each) for each in expected]
        assert part.is_visual or turn.inputs[part.name] == values[part.name]
        shown = TurnInfo.of(session.id, turn).inputs[part.name]
        assert part.name in (shown[0] if part.kind == "pictures" else shown)
    assert editor.again(session.id, turn.id).pictures[0].sha256 == editor.picture(turn).sha256
    assert came_through(tmp_path, store, editor, session) == turn


def pixels(file: bytes) -> bytes:
    from PIL import Image

    return Image.open(io.BytesIO(file)).tobytes()


def came_through(folder, store, editor, session) -> Turn:
    """The last turn after an export and an import elsewhere, which ask about all that it was."""
    file = io.BytesIO()
    archive.export(store, session, file)
    elsewhere = Store(f"sqlite:///{folder / 'other.db'}", folder / "other" / "pictures")
    seen = []
    try:
        came = archive.load(elsewhere, file, seen.append)
        assert elsewhere.get(came.id) == came
        asked, first = seen[-1], again(store.pictures, session, session.turns[-1])
        for part in INPUTS:
            assert (getattr(asked, part.name) in (None, ())) == (
                getattr(first, part.name) in (None, ())
            )
        return came.turns[-1]
    finally:
        elsewhere.close()


BEFORE_INPUTS = {
    "id": "1",
    "parent": "0",
    "kind": "inpaint",
    "created": "2026-01-01T00:00:00.000Z",
    "picture": "p" * 64,
    "thumbnail": "t" * 64,
    "mask": "m" * 64,
    "touched": None,
    "references": ["a" * 64, "b" * 64],
    "control": None,
    "prompt": "a cat",
    "negative_prompt": "fog",
    "model": "kontext",
    "seed": 7,
    "options": {"num_inference_steps": 2},
    "from_original": False,
    "candidate_of": None,
    "candidates": 1,
    "verdict": "done",
    "measures": None,
    "warnings": ["one"],
    "recipe": {},
    "safety": [{"stage": "prompt"}],
}
"""A turn as versions wrote it that had a field for each input."""


def test_turns_of_earlier_versions_are_read_as_they_were():
    turn = Turn.from_json(json.loads(json.dumps(BEFORE_INPUTS)))
    assert turn.inputs == {
        "mask": "m" * 64,
        "references": ("a" * 64, "b" * 64),
        "negative_prompt": "fog",
    }
    assert (turn.warnings, turn.safety) == (("one",), ({"stage": "prompt"},))
    written = json.loads(json.dumps(turn.as_json()))
    later = written.keys() - BEFORE_INPUTS.keys()
    assert {name: written[name] for name in BEFORE_INPUTS} == BEFORE_INPUTS
    assert {"copy_from", "not_from"} <= later
    assert not any(written[name] for name in later)
    assert Turn.from_json(written) == turn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": ["m"]}, "mask: a list"),
        ({"references": "m"}, "references: a str"),
        ({"references": [1]}, "references: a list"),
        ({"depth_from_the_future": "m"}, "no such key"),
    ],
)
def test_turns_that_are_none_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Turn.from_json({**BEFORE_INPUTS, **change})


def test_the_original_was_not_made_by_an_edit(store, make_engine):
    editor, session = begun(store, make_engine("erase"))
    with pytest.raises(InvalidRequest, match="was not made"):
        editor.again(session.id, "0")


def test_from_the_original_again(store, make_engine):
    editor, session = begun(store, make_engine("kontext"))
    editor.edit(session.id, "make it red", seed=1, num_inference_steps=2)
    _, turn = editor.edit(session.id, "no sky", seed=2, num_inference_steps=2, from_original=True)
    assert editor.again(session.id, turn.id).pictures[0].sha256 == editor.picture(turn).sha256

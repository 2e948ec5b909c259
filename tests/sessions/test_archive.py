"""Archives: out and in again, and what is not believed."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import pytest

from overpaint.core.errors import ContentBlocked, InvalidRequest
from overpaint.core.imaging.images import ImageLimits
from overpaint.sessions import archive
from overpaint.sessions.store import Store
from overpaint.sessions.types import Session
from tests.sessions.conftest import a_turn, begun


def unchecked(_request) -> None:
    """Lets everything in."""


@pytest.fixture
def session(store) -> Session:
    session = begun(store)
    mask = store.pictures.put(store.pictures.get(session.turn().picture))
    first = a_turn(store, seed=1, inputs={"mask": mask}, options={"a": [1, None, "x"]})
    second = a_turn(store, seed=2, measures={"previous": {"changed": 0.5}})
    store.append(session.id, [first, second])
    store.append(session.id, [a_turn(store, "1", seed=3)])
    return store.move(session.id, "1")


@pytest.fixture
def packed(store, session) -> bytes:
    file = io.BytesIO()
    archive.export(store, session, file)
    return file.getvalue()


@pytest.fixture
def elsewhere(tmp_path) -> Store:
    other = Store(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other" / "pictures")
    yield other
    other.close()


def changed(packed: bytes, index=None, drop=(), **files: bytes) -> io.BytesIO:
    """The archive with another index, without some files, with others changed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == archive.INDEX and index is not None:
                found = json.loads(data)
                index(found)
                data = json.dumps(found).encode()
            if name not in drop:
                new.writestr(name, files.get(name, data))
    return target


def test_everything_comes_back(session, packed, elsewhere):
    came = archive.load(elsewhere, io.BytesIO(packed), unchecked)
    assert elsewhere.get(came.id) == came
    assert came.id != session.id
    assert (came.name, came.head, came.tip) == (session.name, "1", session.tip)
    for old, new in zip(session.turns, came.turns, strict=True):
        assert replace(new, thumbnail=old.thumbnail) == old
        assert elsewhere.pictures.get(new.picture)
    _, [turn] = elsewhere.append(came.id, [a_turn(elsewhere, "3")])
    assert turn.id == "4"


def test_what_a_model_made_stays_where_it_is(store, elsewhere):
    session = begun(store)
    unseen = store.pictures.put(b"not judged")
    output = {"picture": unseen, "reconstruction": unseen}
    store.append(session.id, [a_turn(store, model_output=output)])
    session = store.get(session.id)
    assert session.turn().model_output == output
    file = io.BytesIO()
    archive.export(store, session, file)
    assert unseen not in " ".join(zipfile.ZipFile(file).namelist())

    def smuggled(index) -> None:
        index["turns"][1]["model_output"] = {"picture": index["turns"][0]["picture"]}

    for data in (file, changed(file.getvalue(), smuggled)):
        assert archive.load(elsewhere, data, unchecked).turn().model_output == {}


def test_every_turn_is_checked(packed, elsewhere):
    seen = []

    def check(request) -> None:
        seen.append(request.prompt)
        if len(seen) == 4:
            raise ContentBlocked("no", stage="input_image", category="violence")

    with pytest.raises(ContentBlocked):
        archive.load(elsewhere, io.BytesIO(packed), check)
    assert seen == ["", "a cat", "a cat", "a cat"]
    assert elsewhere.summaries() == []


def turn_of(number: int, **fields):
    def change(index) -> None:
        index["turns"][number] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (turn_of(1, parent="9"), "turn 1 has no place"),
        (turn_of(1, parent="1"), "turn 1 has no place"),
        (turn_of(1, parent=None), "turn 1 has no place"),
        (turn_of(1, id="../1"), "turn 1 has no place"),
        (turn_of(1, kind="original"), "turn 1 has no place"),
        (turn_of(2, candidate_of="3"), "turn 2 has no place"),
        (turn_of(1, kind="other"), "turn 1 is damaged"),
        (turn_of(1, seed="x"), "turn 1 is damaged"),
        (turn_of(1, picture="../../etc/passwd"), "is missing"),
        (turn_of(1, prompt="x" * 100_001), "longer than 100000"),
        (lambda index: index.update(head="7"), "where it stands"),
        (lambda index: index.update(version=2), "'overpaint-session' 2"),
        (lambda index: index.update(more=1), "damaged"),
        (lambda index: index.update(turns=[]), "damaged"),
        (lambda index: index.update(name=""), "1 to 200 characters"),
    ],
)
def test_what_does_not_fit_is_refused(packed, elsewhere, change, said):
    with pytest.raises(InvalidRequest, match=said):
        archive.load(elsewhere, changed(packed, change), unchecked)
    assert elsewhere.summaries() == []


def test_files_are_what_their_names_say(packed, session, elsewhere):
    name = f"pictures/{session.turns[1].picture}.png"
    with pytest.raises(InvalidRequest, match="damaged"):
        archive.load(elsewhere, changed(packed, **{name: b"other"}), unchecked)
    with pytest.raises(InvalidRequest, match="missing"):
        archive.load(elsewhere, changed(packed, drop=[name]), unchecked)
    with pytest.raises(InvalidRequest, match="there is no session"):
        archive.load(elsewhere, changed(packed, drop=["session.json"]), unchecked)
    with pytest.raises(InvalidRequest, match="not a ZIP file"):
        archive.load(elsewhere, io.BytesIO(packed[: len(packed) // 2]), unchecked)


def test_bombs_are_not_unpacked(packed, elsewhere):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(archive.INDEX, b" " * (archive.MAX_INDEX + 1))
    with pytest.raises(InvalidRequest, match="larger than"):
        archive.load(elsewhere, bomb, unchecked)
    small = archive.ArchiveLimits(bytes=1000)
    with pytest.raises(InvalidRequest, match="more than the limit of 1,000"):
        archive.load(elsewhere, io.BytesIO(packed), unchecked, small)
    pixels = archive.ArchiveLimits(picture=ImageLimits(max_pixels=100))
    with pytest.raises(InvalidRequest, match="archive"):
        archive.load(elsewhere, io.BytesIO(packed), unchecked, pixels)

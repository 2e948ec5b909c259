"""What is kept, by whom it is seen, and who comes first."""

from __future__ import annotations

import stat
import sys
import threading

import pytest
import sqlalchemy

from overpaint.core.errors import (
    InvalidRequest,
    InvalidSettings,
    SessionConflict,
    SessionNotFound,
    StoreUnavailable,
)
from overpaint.sessions.store import Store, StoreLimits
from tests.sessions.conftest import a_turn, begun


def grow(store, session, parent="0", **more):
    """The session with one more turn, and the turn."""
    after, [turn] = store.append(session.id, [a_turn(store, parent)], session.owner, **more)
    return after, turn


class TestEitherDatabase:
    def test_a_session_is_read_as_it_was_written(self, any_store):
        session = begun(any_store)
        after, turn = grow(any_store, session)
        assert any_store.get(session.id) == after
        assert after.head == after.tip == turn.id == "1"
        assert [each.id for each in after.turns] == ["0", "1"]
        assert after.revision == 2

    def test_candidates_are_numbered_and_named(self, any_store):
        session = begun(any_store)
        made = [a_turn(any_store, seed=seed) for seed in (1, 2, 3)]
        after, added = any_store.append(session.id, made)
        assert [turn.id for turn in added] == ["1", "2", "3"]
        assert [turn.candidate_of for turn in added] == [None, "1", "1"]
        assert after.head == "1"

    def test_undo_and_redo_follow_the_branch_that_was_left(self, any_store):
        session = begun(any_store)
        for parent in ("0", "1", "1"):
            session, _ = grow(any_store, session, parent)
        session = any_store.move(session.id, "2")
        assert (session.undo, session.redo) == ("1", None)
        session = any_store.move(session.id, "1")
        assert session.redo == "2"
        session = any_store.move(session.id, "0")
        assert session.redo == "1"
        session = any_store.move(session.id, "3")
        assert any_store.move(session.id, "1").redo == "3"

    def test_the_second_of_two_is_told(self, any_store):
        session = begun(any_store)
        any_store.reserve(session.id, session.revision)
        with pytest.raises(SessionConflict, match="its revision is 2, not 1"):
            any_store.reserve(session.id, session.revision)
        with pytest.raises(SessionConflict):
            any_store.move(session.id, "0", session.revision)
        assert any_store.get(session.id).revision == 2

    def test_a_finished_turn_is_never_refused(self, any_store):
        session = begun(any_store)
        any_store.reserve(session.id, session.revision)
        grow(any_store, session, head="0")
        after, turn = grow(any_store, session, head="0")
        assert turn.id == "2"
        assert after.head == "1"  # it did not move under the one that came first
        assert {each.parent for each in after.turns[1:]} == {"0"}

    def test_many_at_once_lose_nothing(self, any_store):
        session = begun(any_store)
        made = [a_turn(any_store, seed=seed) for seed in range(8)]
        done, conflicts = [], []

        def work(turn) -> None:
            done.append(any_store.append(session.id, [turn])[1][0].id)
            try:
                any_store.reserve(session.id, session.revision)
            except SessionConflict:
                conflicts.append(turn)

        threads = [threading.Thread(target=work, args=(turn,)) for turn in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == [str(each) for each in range(1, 9)]
        assert len(conflicts) == 8
        assert len(any_store.get(session.id).turns) == 9

    def test_others_see_nothing(self, any_store):
        session = begun(any_store, owner="somebody")
        assert any_store.summaries() == []
        for use in (
            lambda: any_store.get(session.id),
            lambda: any_store.move(session.id, "0"),
            lambda: any_store.rename(session.id, "mine"),
            lambda: any_store.delete(session.id),
            lambda: any_store.append(session.id, [a_turn(any_store)]),
        ):
            with pytest.raises(SessionNotFound):
                use()
        assert any_store.get(session.id, "somebody").revision == 1

    def test_summaries_show_the_head(self, any_store):
        first, second = begun(any_store, "one"), begun(any_store, "two")
        grow(any_store, first)
        found = any_store.summaries()
        assert [(each.name, each.turns, each.head) for each in found] == [
            ("one", 2, "1"),
            ("two", 1, "0"),
        ]
        assert found[0].thumbnail == any_store.get(first.id).turn().thumbnail
        assert [each.id for each in any_store.summaries(limit=1, offset=1)] == [second.id]

    def test_names_are_any_words(self, any_store):
        session = begun(any_store, "Ein Drachen, 風箏 😀 ' \" %")
        assert any_store.find(session.name) == session
        assert any_store.rename(session.id, " two ").name == "two"

    def test_a_turn_of_any_words(self, any_store):
        session = begun(any_store)
        words = "null \x00 and half \ud83d and 'quotes'"
        after, _ = any_store.append(session.id, [a_turn(any_store, options={"words": words})])
        assert any_store.get(session.id).turn().options == {"words": words}
        assert after.turn().options["words"] == words

    def test_a_deleted_session_leaves_no_pictures(self, any_store):
        kept, gone = begun(any_store, "kept"), begun(any_store, "gone")
        _, turn = grow(any_store, gone)
        any_store.delete(gone.id)
        assert any_store.collect() == (0, 0)  # they are young
        files, size = any_store.collect(grace=0)
        assert (files, size > 0) == (2, True)
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            any_store.pictures.get(turn.picture)
        assert any_store.pictures.get(kept.turn().picture)


class TestLimits:
    @pytest.fixture
    def small(self, store):
        store.limits = StoreLimits(sessions=2, turns=3, gigabytes=1)
        return store

    def test_sessions(self, small):
        begun(small), begun(small)
        begun(small, owner="somebody")
        with pytest.raises(InvalidRequest, match="2 sessions already"):
            begun(small)

    def test_turns_are_refused_before_the_edit(self, small):
        session = begun(small)
        small.reserve(session.id, count=2)
        with pytest.raises(InvalidRequest, match="3 turns at most"):
            small.reserve(session.id, count=3)

    def test_bytes(self, small):
        session = begun(small)
        small.limits = StoreLimits(gigabytes=1e-9)
        with pytest.raises(InvalidRequest, match="fill the"):
            small.reserve(session.id)

    @pytest.mark.parametrize("name", ["", "  ", "x" * 201, "two\nlines", "nul\x00"])
    def test_names(self, store, name):
        with pytest.raises(InvalidRequest, match="1 to 200 characters"):
            begun(store, name)


class TestFinding:
    def test_by_id_its_beginning_and_name(self, store):
        session = begun(store, "kite")
        for words in (session.id, session.id[:8], session.id[2:8], "kite"):
            assert store.find(words).id == session.id

    @pytest.mark.parametrize("words", ["s_", "", "kit", "%"])
    def test_nothing_else(self, store, words):
        begun(store, "kite")
        with pytest.raises(SessionNotFound):
            store.find(words)


class TestFilesAndSettings:
    @pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
    def test_only_the_owner_can_read(self, store):
        for folder in (store.pictures.folder, store.pictures.folder.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_sqlite_is_durable(self, store):
        with store._engine.connect() as connection:
            for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value

    def test_a_damaged_picture_is_noticed(self, store):
        key = begun(store).turn().picture
        (store.pictures.folder / key[:2] / key).write_bytes(b"other")
        with pytest.raises(StoreUnavailable, match="damaged"):
            store.pictures.get(key)

    def test_a_picture_in_use_again_is_not_collected(self, store):
        key = store.pictures.put(b"picture")
        assert store.pictures.collect({key}, grace=0) == (0, 0)
        assert store.pictures.collect((), grace=60) == (0, 0)
        assert store.pictures.collect((), grace=0) == (1, 7)
        assert store.pictures.put(b"picture") == key
        assert store.pictures.get(key) == b"picture"

    def test_another_version_is_refused(self, tmp_path, store):
        url = f"sqlite:///{tmp_path / 'sessions.db'}"
        with sqlalchemy.create_engine(url).begin() as connection:
            connection.exec_driver_sql("UPDATE overpaint_store SET version = 99")
        with pytest.raises(StoreUnavailable, match="another version"):
            Store(url, tmp_path / "pictures")

    @pytest.mark.parametrize("url", ["nonsense", "nonsense://x", "mysql://localhost/x"])
    def test_urls_that_cannot_be_used(self, tmp_path, url):
        with pytest.raises(InvalidSettings) as refused:
            Store(url, tmp_path / "pictures")
        assert refused.value.field == "sessions.url"

    def test_a_database_that_is_not_there(self, tmp_path):
        with pytest.raises(StoreUnavailable) as refused:
            Store("postgresql+psycopg://x:secret@127.0.0.1:1/x", tmp_path / "pictures")
        assert "secret" not in str(refused.value)

"""A turn that is refused changes nothing: who tries again is not told of somebody else."""

from __future__ import annotations

import httpx
import pytest

from overpaint.core import errors
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.sessions.editor import Editor
from overpaint.sessions.store import Store
from tests.apps.server.protocols.test_sessions import begin, show, turn
from tests.conftest import box_mask, picture

WAIT = {"async": False}


def post(server, session, **more) -> httpx.Response:
    where = f"/v1/sessions/{session['id']}/turns"
    return server.client.post(where, json=turn(session["revision"], **more))


def the_next_one_is_made(server, session) -> None:
    assert show(server.client, session)["revision"] == session["revision"]
    answer = post(server, session, **WAIT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["revision"] == session["revision"] + 2


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"prompt": ""}, 400),
        ({"options": {"num_inference_steps": 0}}, 400),
        ({"model": "none"}, 404),
        ({"num_images": 11}, 400),
        ({"options": {"width": 8, "height": 8}}, 400),
        ({"timeout_s": 0.001}, 504),
    ],
)
def test_by_its_own_fault_or_too_late(server, more, status):
    session = begin(server.client)
    assert post(server, session, **WAIT, **more).status_code == status
    the_next_one_is_made(server, session)


def test_by_a_full_queue(start):
    server = start(models=("sd2",), max_queued=1)
    session = begin(server.client)
    accept = server.service.accept

    def full(*_):
        raise errors.Overloaded("the queue is full", retry_after=1)

    server.service.accept = full
    assert post(server, session, **WAIT).status_code == 429
    server.service.accept = accept
    the_next_one_is_made(server, session)


@pytest.mark.parametrize(
    "error",
    [
        errors.ContentBlocked("no", stage="prompt", category="hate"),
        errors.SafetyUnavailable("nobody answered"),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_by_the_engine(start, error):
    server = start(models=("sd2",))
    session = begin(server.client)
    engine = server.service.batcher.engine
    begin_edit = engine.begin

    def fail(*_, **__):
        raise error

    engine.begin = fail
    assert post(server, session, **WAIT).status_code >= 400
    engine.begin = begin_edit
    the_next_one_is_made(server, session)


def test_by_a_caller_that_cancels_it(server):
    session = begin(server.client)
    accepted = post(server, session, options={"num_inference_steps": 200}).json()
    assert show(server.client, session)["revision"] == accepted["revision"] == 2
    server.client.delete(f"/v1/edits/{accepted['id']}")
    server.until(lambda: show(server.client, session)["revision"] == 1)
    the_next_one_is_made(server, session)


def test_while_it_is_made_others_are_told(server):
    session = begin(server.client)
    accepted = post(server, session, options={"num_inference_steps": 200}).json()
    assert post(server, session, **WAIT).status_code == 409
    server.client.delete(f"/v1/edits/{accepted['id']}")


class TestTheLibrary:
    @pytest.fixture
    def store(self, tmp_path):
        made = Store(f"sqlite:///{tmp_path / 'sessions.db'}", tmp_path / "pictures")
        yield made
        made.close()

    def editor(self, store, run_edit) -> Editor:
        return Editor(store=store, check=lambda _: None, run_edit=run_edit)

    def test_an_edit_that_fails_leaves_the_session_as_it_was(self, store):
        def fail(request, /, **_):
            raise errors.OutOfMemory("too large")

        editor = self.editor(store, fail)
        session = editor.new(picture(64, 64))
        with pytest.raises(errors.OutOfMemory):
            editor.edit(session.id, "a cat", mask=box_mask(64, 64), revision=session.revision)
        assert store.get(session.id).revision == session.revision

    def test_but_not_where_somebody_else_came_since(self, store):
        editor = self.editor(store, None)
        session = editor.new(picture(64, 64))
        start = editor.start(session.id, "a cat")
        request = EditRequest(image=Picture.from_pil(picture(64, 64)), prompt="a cat")
        start = editor.reserve(start, request.num_images)
        renamed = store.rename(session.id, "other", start.session.revision)
        editor.release(start)
        assert store.get(session.id).revision == renamed.revision

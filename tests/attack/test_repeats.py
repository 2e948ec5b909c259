"""The same request again, however it is written; and what must not be the same answer again."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from overpaint.core import errors
from tests.apps.server.conftest import b64, edit, png
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.apps.server.protocols.test_sessions import begin, turn
from tests.conftest import box_mask, picture

IMAGE, MASK = picture(64, 64), box_mask(64, 64)
FILES = {"image": ("a.png", png(IMAGE)), "mask": ("m.png", png(MASK))}
FIELDS = {"model": "sd2", "prompt": "a red cat", "options": '{"num_inference_steps": 2}'}


OPENAI = {"image": ("a.png", png(IMAGE)), "mask": ("m.png", png(transparent_mask()))}
OPENAI_FIELDS = {"model": "sd2", "prompt": "a red cat", "num_inference_steps": "2"}


def rows(prompt="a red cat", *, turned=False) -> bytes:
    row = {"prompt": prompt, "image": b64(IMAGE), "mask_image": b64(MASK)}
    table = [dict(reversed(row.items()))] if turned else [row]
    parameters = {"num_inference_steps": 2}
    body = {"input_data": table, "params": parameters}
    return json.dumps(dict(reversed(body.items())) if turned else body).encode()


def json_edit(**more) -> dict:
    body = {**edit(**more), "seed": None}
    return {"content": json.dumps(body).encode(), "headers": {"content-type": "application/json"}}


def turned_edit() -> dict:
    body = dict(reversed({**edit(), "seed": None}.items()))
    return {
        "content": json.dumps(body, indent=1).encode(),
        "headers": {"content-type": "application/json"},
    }


def scored(**more) -> dict:
    return {"content": rows(**more), "headers": {"content-type": "application/json"}}


CASES = {
    "forms with other boundaries": (
        "/v1/edits",
        {"data": FIELDS, "files": FILES},
        {"data": dict(reversed(FIELDS.items())), "files": dict(reversed(FILES.items()))},
        {"data": {**FIELDS, "prompt": "a blue cat"}, "files": FILES},
    ),
    "JSON in another order": ("/v1/edits", json_edit(), turned_edit(), json_edit(prompt="a dog")),
    "a form instead of JSON": (
        "/v1/edits",
        json_edit(),
        {"data": FIELDS, "files": FILES},
        {"data": {**FIELDS, "num_images": "2"}, "files": FILES},
    ),
    "OpenAI's forms": (
        "/v1/images/edits",
        {"data": OPENAI_FIELDS, "files": OPENAI},
        {"data": dict(reversed(OPENAI_FIELDS.items())), "files": dict(reversed(OPENAI.items()))},
        {"data": {**OPENAI_FIELDS, "output_format": "webp"}, "files": OPENAI},
    ),
    "rows": ("/score", scored(), scored(turned=True), scored(prompt="a dog")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_asked_for_counts_and_not_its_bytes(server, name):
    path, first, same, other = CASES[name]

    def ask(request):
        headers = {**request.get("headers", {}), "idempotency-key": name}
        return server.client.post(path, **{**request, "headers": headers})

    answer, again = ask(first), ask(same)
    assert answer.status_code == again.status_code == 200, answer.text + again.text
    assert again.json() == answer.json()
    refused = ask(other)
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"


def test_the_clients_libraries_agree(server):
    """Each chooses a boundary of its own; httpx did above."""
    import urllib3

    answers = []
    for _ in range(2):
        body, kind = urllib3.encode_multipart_formdata({**FIELDS, **FILES})
        headers = {"content-type": kind, "idempotency-key": "libraries"}
        answers.append(server.client.post("/v1/edits", content=body, headers=headers).json())
    headers = {"idempotency-key": "libraries"}
    answers.append(
        server.client.post("/v1/edits", data=FIELDS, files=FILES, headers=headers).json()
    )
    assert answers[0]["images"]
    assert answers[0] == answers[1] == answers[2]


def test_two_at_the_same_time_are_one_edit(server):
    body, headers = {**edit(3, 5), "seed": None}, {"idempotency-key": "together"}
    with ThreadPoolExecutor(4) as pool:
        asking = [
            pool.submit(server.client.post, "/v1/edits", json=body, headers=headers)
            for _ in range(4)
        ]
    assert len({each.result().text for each in asking}) == 1


def test_a_stream_is_repeated_too(server):
    headers = {"idempotency-key": "stream"}
    more = {"data": {**OPENAI_FIELDS, "stream": "true"}, "files": OPENAI, "headers": headers}
    first, again = (server.client.post("/v1/images/edits", **more).text for _ in range(2))
    picture_of = [text.split('"b64_json": "')[1].split('"')[0] for text in (first, again)]
    assert picture_of[0] == picture_of[1]


class TestTurns:
    def test_a_turn_is_made_once(self, server):
        session = begin(server.client)
        where = f"/v1/sessions/{session['id']}/turns"
        body, headers = turn(1, **{"async": False}), {"idempotency-key": "turn"}
        first = server.client.post(where, json=body, headers=headers)
        again = server.client.post(where, json=dict(reversed(body.items())), headers=headers)
        assert (first.status_code, again.json()) == (200, first.json())
        assert len(server.client.get(f"/v1/sessions/{session['id']}").json()["turns"]) == 2
        other = server.client.post(where, json={**body, "seed": 2}, headers=headers)
        assert other.status_code == 409

    def test_one_that_is_accepted_only_too(self, server):
        session = begin(server.client)
        where = f"/v1/sessions/{session['id']}/turns"
        headers = {"idempotency-key": "turn later"}
        first, again = (server.client.post(where, json=turn(1), headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.headers["location"] == again.headers["location"]
        assert again.json()["revision"] == 2


class TestPassingErrors:
    @pytest.mark.parametrize(
        "error",
        [
            errors.SafetyUnavailable("nobody answered"),
            errors.OutOfMemory("others fill it"),
            errors.DeadlineExceeded("too late"),
            ValueError("a bug"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_are_no_lasting_answer(self, start, error):
        server = start(models=("sd2",))
        failing = _Failing(server.service.batcher.engine, error)
        headers = {"idempotency-key": "k"}
        first = server.client.post("/v1/edits", json=edit(steps=1), headers=headers)
        assert first.status_code >= 500
        failing.stop()
        again = server.client.post("/v1/edits", json=edit(steps=1), headers=headers)
        assert again.status_code == 200

    def test_what_is_wrong_with_the_request_is_one(self, start):
        server = start(models=("sd2",))
        failing = _Failing(server.service.batcher.engine, errors.BrokenResult("no numbers"))
        headers = {"idempotency-key": "k"}
        for _ in range(2):
            answer = server.client.post("/v1/edits", json=edit(steps=1), headers=headers)
            assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
        assert failing.calls == 1


class _Failing:
    """An engine that cannot begin an edit."""

    def __init__(self, engine, error) -> None:
        self.calls, self._engine, self._begin = 0, engine, engine.begin
        self._lock = threading.Lock()

        def begin(*args, **more):
            with self._lock:
                self.calls += 1
            raise error

        engine.begin = begin

    def stop(self) -> None:
        self._engine.begin = self._begin

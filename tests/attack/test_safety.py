"""Slow safety checks: each stalls its own edit and nothing else."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from overpaint.safety.policy import Policy
from tests.apps.server.conftest import b64, edit
from tests.attack.conftest import KEYS, header_of, within
from tests.conftest import picture


class Slow:
    """Judges words at once, but those of a slow edit not before it is told to.

    Pictures take as long as they are large: 100 pixels of width and more wait.
    """

    name = "slow"

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.calls = 0

    def check(self, content) -> dict[str, int]:
        self.calls += 1
        is_slow = content == "slow" if isinstance(content, str) else content.width >= 100
        if is_slow:
            assert self.go_on.wait(60)
        return {"sexual": 0}


def policed(server) -> Slow:
    slow = Slow()
    policy = Policy(mode="block", text_checkers=(slow,), image_checkers=(slow,))
    server.service.batcher.engine.policy = policy
    return slow


def test_slow_checks_hold_up_their_own_edits_alone(start):
    server = start()
    slow = policed(server)
    body = {**edit(**{"async": True}), "prompt": "slow"}
    places = [server.client.post("/v1/edits", json=body).headers["location"] for _ in range(12)]
    assert server.client.post("/v1/edits", json=edit()).status_code == 200
    assert not any(done(server, each) for each in places)
    slow.go_on.set()
    server.until(lambda: all(done(server, each) for each in places))


def test_as_many_as_one_key_may_send_do_too(start):
    server = start(keys=KEYS, headers=header_of("bad"))
    slow = policed(server)
    body = {**edit(**{"async": True}), "prompt": "slow"}
    answers = [server.client.post("/v1/edits", json=body) for _ in range(33)]
    assert [answer.status_code for answer in answers] == [202] * 32 + [429]
    honest = server.client.post("/v1/edits", json=edit(), headers=header_of("good"))
    assert honest.status_code == 200
    slow.go_on.set()


def done(server, where) -> bool:
    return server.client.get(where).json()["status"] == "done"


def test_a_check_that_takes_too_long_ends_its_edit(start):
    server = start(check_timeout_s=1)
    slow = policed(server)
    with within(30):
        answer = server.client.post("/v1/edits", json={**edit(), "prompt": "slow"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "safety_unavailable")
    slow.go_on.set()


def test_a_deleted_edits_check_ends(start):
    server = start()
    slow = policed(server)
    body = {**edit(**{"async": True}), "prompt": "slow"}
    where = server.client.post("/v1/edits", json=body).headers["location"]
    server.until(lambda: slow.calls == 1)
    server.client.delete(where)
    server.until(lambda: server.service.batcher.idle)
    slow.go_on.set()
    time.sleep(0.5)
    assert slow.calls == 1  # neither the negative prompt nor the picture is looked at


def test_uploads_of_sessions_do_not_wait_for_each_other(start):
    server = start(models=("erase",))
    slow = policed(server)
    with ThreadPoolExecutor(4) as pool:
        late = [pool.submit(upload, server, 100) for _ in range(4)]
        server.until(lambda: slow.calls >= 4)
        assert upload(server, 64).status_code == 201
        assert not any(each.done() for each in late)
        slow.go_on.set()
        assert [each.result().status_code for each in late] == [201] * 4


def test_an_upload_whose_check_takes_too_long_is_refused(start):
    server = start(models=("erase",), check_timeout_s=1)
    slow = policed(server)
    assert upload(server, 100).status_code == 503
    slow.go_on.set()


def upload(server, side):
    return server.client.post("/v1/sessions", json={"image": b64(picture(side, side))})

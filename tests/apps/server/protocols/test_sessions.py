"""`/v1/sessions` over a real connection."""

from __future__ import annotations

import base64
import io
import json
import time

import pytest
from PIL import Image

from overpaint.core.imaging.fidelity import report
from tests.apps.server.conftest import FEW, b64, png, serving
from tests.conftest import box_mask, picture

SIDE = 64


def begin(client, name="kite", **more) -> dict:
    answer = client.post(
        "/v1/sessions", json={"name": name, "image": b64(picture(SIDE, SIDE)), **more}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def turn(revision: int, **more) -> dict:
    body = {"model": "sd2", "prompt": "a red cat", "mask": b64(box_mask(SIDE, SIDE)), "seed": 1}
    return {**body, "options": FEW, "revision": revision, **more}


def edited(client, session: dict, **more) -> dict:
    """A finished turn's answer."""
    body = turn(session["revision"], **{"async": False, **more})
    answer = client.post(f"/v1/sessions/{session['id']}/turns", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def show(client, session: dict) -> dict:
    return client.get(f"/v1/sessions/{session['id']}").json()


def opened(client, address: str) -> Image.Image:
    answer = client.get(address)
    assert answer.status_code == 200
    return Image.open(io.BytesIO(answer.content))


@pytest.fixture
def client(server):
    return server.client


def test_a_session_begins_with_its_original(client):
    session = begin(client)
    assert session["head"] == "0"
    assert session["revision"] == 1
    [original] = session["turns"]
    assert original["kind"] == "original"
    assert original["parent"] is None
    assert original["measures"] is None
    assert opened(client, original["picture"]).tobytes() == picture(SIDE, SIDE).tobytes()
    assert opened(client, original["thumbnail"]).format == "WEBP"
    assert session["id"] in {each["id"] for each in client.get("/v1/sessions").json()["data"]}


def test_a_mask_of_another_size_is_stretched_where_that_is_asked_for(client):
    session = begin(client)
    half = b64(box_mask(SIDE // 2, SIDE // 2))
    body = turn(session["revision"], **{"async": False, "mask": half})
    address = f"/v1/sessions/{session['id']}/turns"
    refused = client.post(address, json=body)
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "mask")
    answer = client.post(address, json={**body, "fit_mask": True})
    assert answer.status_code == 200, answer.text
    kept = opened(client, answer.json()["turn"]["mask"])
    assert kept.size == (SIDE, SIDE)
    edit = {"image": b64(picture(SIDE, SIDE)), "mask": half, "model": "erase"}
    assert client.post("/v1/edits", json=edit).status_code == 400
    assert client.post("/v1/edits", json={**edit, "fit_mask": True}).status_code == 200


def test_a_session_and_a_turn_as_forms(client):
    as_json = edited(client, begin(client))
    files = {"image": ("a.png", png(picture(SIDE, SIDE)))}
    answer = client.post("/v1/sessions", data={"name": "kite"}, files=files)
    assert answer.status_code == 201, answer.text
    session = answer.json()
    fields = {"model": "sd2", "prompt": "a red cat", "seed": "1", "options": json.dumps(FEW)}
    fields |= {"revision": str(session["revision"]), "async": "false"}
    turns, mask = f"/v1/sessions/{session['id']}/turns", ("m.png", png(box_mask(SIDE, SIDE)))
    answer = client.post(turns, data=fields, files={"mask": mask})
    assert answer.status_code == 200, answer.text
    pictures = [opened(client, each["turn"]["picture"]) for each in (as_json, answer.json())]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    again = client.post(turns, data={**fields, "revision": "2"}, files={**files, "mask": mask})
    assert (again.status_code, again.json()["error"]["field"]) == (400, "image")
    nameless = client.post("/v1/sessions", data={"name": "kite"}, files={"mask": mask})
    assert (nameless.status_code, nameless.json()["error"]["field"]) == (400, "mask")


def test_a_turn_may_be_measured_after_it_is_shown(client):
    first, later = begin(client), begin(client)
    measured = edited(client, first)["turn"]
    told = edited(client, later, measure_later=True)
    assert "previous" not in told["turn"]["measures"]
    assert told["turn"]["verdict"] == measured["verdict"]
    end = time.monotonic() + 60
    while "previous" not in (found := show(client, later))["turns"][1]["measures"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert found["revision"] == told["revision"]
    for name in ("measures", "warnings"):
        assert found["turns"][1][name] == measured[name]


def test_a_turn_is_an_edit_that_can_be_followed(client):
    session = begin(client)
    where = f"/v1/sessions/{session['id']}/turns"
    accepted = client.post(where, json={**turn(1), "revision": None}, headers={"if-match": '"1"'})
    assert accepted.status_code == 202
    told = accepted.json()
    assert told["revision"] == 2
    with client.stream("GET", f"/v1/edits/{told['id']}/events") as events:
        assert "event: done" in events.read().decode()
    answer = client.get(f"/v1/edits/{told['id']}").json()
    assert answer["turn"]["id"] == "1"
    found = show(client, session)
    assert found["head"] == "1"
    assert found["turns"][1] == answer["turn"]
    assert found["turns"][1]["kind"] == "inpaint"
    assert opened(client, answer["turn"]["mask"]).getbbox() == box_mask(SIDE, SIDE).getbbox()


def test_undo_redo_and_branch_are_the_head(client):
    session = begin(client)
    edited(client, session)
    session = show(client, session)
    assert (session["undo"], session["redo"]) == ("0", None)
    head = f"/v1/sessions/{session['id']}/head"
    back = client.post(head, json={"turn": "0", "revision": session["revision"]}).json()
    assert (back["head"], back["undo"], back["redo"]) == ("0", None, "1")
    edited(client, back, seed=2)
    branched = show(client, session)
    assert [each["parent"] for each in branched["turns"]] == [None, "0", "0"]
    assert branched["head"] == "2"


def test_who_knows_an_older_revision_is_told(client):
    session = begin(client)
    edited(client, session)
    for method, path, body in (
        ("POST", "/turns", turn(1)),
        ("POST", "/head", {"turn": "0", "revision": 1}),
        ("PATCH", "", {"name": "other", "revision": 1}),
    ):
        refused = client.request(method, f"/v1/sessions/{session['id']}{path}", json=body)
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "conflict"
    assert len(show(client, session)["turns"]) == 2


def test_a_turn_says_which_revision_it_knows(client):
    session = begin(client)
    refused = client.post(f"/v1/sessions/{session['id']}/turns", json=turn(None))
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "revision"


def test_of_candidates_the_best_is_the_turn_and_the_others_stay(client):
    session = begin(client)
    answer = edited(client, session, num_images=3)
    best, *others = show(client, session)["turns"][1:]
    assert answer["candidates"] == ["1", "2", "3"]
    assert best["candidates"] == 3
    assert [each["candidate_of"] for each in others] == ["1", "1"]
    taken = [each["measures"] for each in (best, *others)]
    scores = [each["judge"]["score"] * (1 + report.grade(each["edit"])) for each in taken]
    assert scores == sorted(scores, reverse=True)
    assert {each["seed"] for each in (best, *others)} == {1, 2, 3}


def test_a_candidate_is_kept_and_stays_so_when_it_is_measured(client):
    session = begin(client)
    revision = edited(client, session, num_images=2, measure_later=True)["revision"]
    where = f"/v1/sessions/{session['id']}/turns/2"
    marked = client.patch(where, json={"is_kept": True})
    assert marked.status_code == 200, marked.text
    assert marked.json()["is_kept"] is True
    end = time.monotonic() + 60
    while show(client, session)["turns"][2]["measures"] is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    shown = show(client, session)
    assert [each["is_kept"] for each in shown["turns"]] == [False, False, True]
    assert shown["revision"] == revision
    assert client.patch(where, json={"is_kept": False}).json()["is_kept"] is False
    assert client.patch(f"{where}0", json={"is_kept": True}).status_code == 404


def test_a_download_is_in_the_format_of_the_original(client):
    photo = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(photo, "JPEG", quality=90)
    body = {"name": "photo", "image": base64.b64encode(photo.getvalue()).decode()}
    session = client.post("/v1/sessions", json=body).json()
    assert session["turns"][0]["format"] == "JPEG"
    edited(client, session)
    made = opened(client, f"/v1/sessions/{session['id']}/turns/1/picture").convert("RGB")
    where = f"/v1/sessions/{session['id']}/turns/1/download"
    answer = client.get(where)
    assert answer.headers["content-type"] == "image/jpeg"
    assert 25 < float(answer.headers["x-overpaint-psnr"]) <= 99
    for name, exact in (("PNG", True), ("WEBP", True), ("JPEG", False)):
        answer = client.get(where, params={"format": name})
        file = Image.open(io.BytesIO(answer.content))
        assert file.format == name
        assert (file.convert("RGB").tobytes() == made.tobytes()) is exact
    answer = client.get(where, params={"format": "GIF"})
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "format"
    assert answer.json()["error"]["message"] == "'GIF': give 'PNG', 'JPEG' or 'WEBP'"
    plain = begin(client)
    answer = client.get(f"/v1/sessions/{plain['id']}/turns/0/download")
    assert answer.headers["content-type"] == "image/png"


def test_rename_compare_and_delete(client):
    session = begin(client)
    edited(client, session)
    where = f"/v1/sessions/{session['id']}"
    assert client.patch(where, json={"name": " the dog "}).json()["name"] == "the dog"
    same = client.get(f"{where}/turns/1/compare/1").json()
    assert same["changed"] == 0
    assert same["kept_psnr"] == 99
    assert client.get(f"{where}/turns/0/compare/1").json()["changed"] > 0
    assert client.delete(where).status_code == 204
    assert client.get(where).status_code == 404


@pytest.mark.parametrize(
    "path", ["/turns/7/picture", "/turns/0/mask", "/turns/0/compare/x", "/turns/../picture"]
)
def test_what_is_not_there_is_not_found(client, path):
    session = begin(client)
    assert client.get(f"/v1/sessions/{session['id']}{path}").status_code == 404


def test_pictures_are_kept_by_browsers(client):
    address = begin(client)["turns"][0]["picture"]
    first = client.get(address)
    assert "immutable" in first.headers["cache-control"]
    again = client.get(address, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_refused_turn_leaves_the_session_as_it_was(client):
    session = begin(client)
    where = f"/v1/sessions/{session['id']}/turns"
    refused = client.post(where, json=turn(1, options={"num_inference_steps": 0}))
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "options.num_inference_steps"
    assert show(client, session)["revision"] == 1


def test_a_session_goes_out_and_comes_in_again(client):
    session = begin(client)
    edited(client, session, num_images=2)
    before = show(client, session)
    sent = client.get(f"/v1/sessions/{session['id']}/export")
    assert sent.headers["content-type"] == "application/zip"
    came = client.post(
        "/v1/sessions/import", content=sent.content, headers={"content-type": "application/zip"}
    )
    assert came.status_code == 201, came.text
    after = came.json()
    assert after["id"] != before["id"]
    assert (after["name"], after["head"]) == (before["name"], before["head"])
    for old, new in zip(before["turns"], after["turns"], strict=True):
        assert old["recipe"] == new["recipe"]
        assert client.get(old["picture"]).content == client.get(new["picture"]).content


def test_sessions_can_be_switched_off(start, make_settings):
    settings = make_settings()
    off = settings.sessions.model_copy(update={"enabled": False})
    with serving(settings.model_copy(update={"sessions": off})) as running:
        refused = running.client.get("/v1/sessions")
        assert refused.status_code == 404


def test_each_key_sees_its_own_sessions(start):
    keys = {"one": "1" * 16, "two": "2" * 16}
    running = start(keys=keys)
    one, two = ({"api-key": key} for key in keys.values())
    body = {"image": b64(picture(SIDE, SIDE))}
    made = running.client.post("/v1/sessions", json=body, headers=one).json()
    where = f"/v1/sessions/{made['id']}"
    assert running.client.get(where, headers=one).status_code == 200
    assert running.client.get(where, headers=two).status_code == 404
    assert running.client.get("/v1/sessions", headers=two).json() == {"data": []}
    for address in (made["turns"][0]["picture"], f"{where}/export"):
        assert running.client.get(address, headers=two).status_code == 404


def test_cancelling_adds_no_turn(client):
    session = begin(client)
    body = turn(1, options={"num_inference_steps": 200})
    told = client.post(f"/v1/sessions/{session['id']}/turns", json=body).json()
    assert client.delete(f"/v1/edits/{told['id']}").json()["status"] == "cancelled"
    found = show(client, session)
    assert [each["id"] for each in found["turns"]] == ["0"]
    assert found["revision"] == 1  # as before, so the same turn may be sent again

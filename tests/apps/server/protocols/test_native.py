"""The native API: edits, later answers, events, idempotency, models."""

from __future__ import annotations

import gc
import json
import threading
import weakref

import numpy as np
import pytest

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.diffusion.denoiser import Denoiser
from tests.apps.server.conftest import asking, b64, edit, from_b64, png
from tests.conftest import box_mask, picture


def events(lines) -> list[tuple[str, dict]]:
    """Server-sent events as (name, data)."""
    told, name = [], ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            told.append((name, json.loads(line.removeprefix("data: "))))
    return told


class TestEdits:
    def test_an_edit_is_the_engines_own(self, server, make_engine):
        answer = server.client.post("/v1/edits", json=edit(5, 3, num_images=2)).json()
        assert answer["status"] == "done"
        assert answer["seeds"] == [5, 6]
        assert answer["recipe"]["options"]["num_inference_steps"] == 3
        assert answer["timings"]["total"] > 0
        alone = make_engine("sd2").run(
            [
                EditRequest(
                    image=Picture.from_pil(picture(64, 64, seed=5)),
                    mask=box_mask(64, 64),
                    prompt="a red cat",
                    seed=5,
                    num_images=2,
                    options={"num_inference_steps": 3},
                )
            ]
        )[0]
        for one, other in zip(alone.images, answer["images"], strict=True):
            difference = np.asarray(one).astype(int) - np.asarray(from_b64(other)).astype(int)
            assert np.abs(difference).max() <= 1

    def test_a_form_does_what_json_does(self, server):
        form = {
            "model": "sd2",
            "prompt": "a red cat",
            "seed": "5",
            "options": '{"num_inference_steps": 3}',
        }
        files = {
            "image": ("a.png", png(picture(64, 64, seed=5))),
            "mask": ("m.png", png(box_mask(64, 64))),
        }
        one = server.client.post("/v1/edits", data=form, files=files).json()
        other = server.client.post("/v1/edits", json=edit(5, 3)).json()
        assert one["images"] == other["images"]

    def test_without_a_mask_the_editing_model_is_taken(self, server):
        body = {"image": b64(picture()), "prompt": "red", "options": {"num_inference_steps": 1}}
        answer = server.client.post("/v1/edits", json={**body, "model": "kontext"})
        assert answer.json()["recipe"]["model"]["name"] == "kontext"

    def test_erasing_needs_no_prompt(self, server):
        body = {"model": "erase", "image": b64(picture()), "mask": b64(box_mask())}
        assert server.client.post("/v1/edits", json=body).status_code == 200

    def test_base64_may_be_a_data_url_and_have_line_breaks(self, server):
        body = edit()
        text = body["image"]
        body["image"] = "data:image/png;base64," + text[:76] + "\n" + text[76:]
        assert server.client.post("/v1/edits", json=body).status_code == 200

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"image": "a b c!"}, "image"),
            ({"image": "https://example.org/a.png"}, "image"),
            ({"image": b64(picture())[:200]}, "image"),
            ({"mask": b64(box_mask(32, 32))}, "mask"),
            ({"mask": None}, "mask"),
            ({"prompt": "x" * 32001}, "prompt"),
            ({"prompt": " "}, "prompt"),
            ({"seed": -1}, "seed"),
            ({"seed": 10**400}, "seed"),
            ({"seed": "7"}, "seed"),
            ({"seed": 1.5}, "seed"),
            ({"num_images": 11}, "num_images"),
            ({"num_images": 0}, "num_images"),
            ({"num_images": True}, "num_images"),
            ({"options": {"steps": 3}}, "options.steps"),
            ({"options": {"num_inference_steps": 201}}, "options.num_inference_steps"),
            ({"options": {"num_inference_steps": 10**30}}, "options.num_inference_steps"),
            ({"options": {"guidance_scale": "x"}}, "options.guidance_scale"),
            ({"options": {"width": 8192, "height": 8192}}, "options.width"),
            ({"control": b64(picture())}, "control"),
            ({"references": ["x"]}, "references"),
            ({"imag": "x"}, "imag"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"model": "x" * 300}, "model"),
        ],
    )
    def test_what_is_wrong_is_named(self, server, change, field):
        answer = server.client.post("/v1/edits", json={**edit(), **change})
        assert answer.status_code == (
            404 if field == "model" and len(change["model"]) < 200 else 400
        )
        assert answer.json()["error"]["field"] == field

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("promt", " (did you mean prompt?)"),
            ("guidance_scale", "; options of the model belong in options"),
        ],
    )
    def test_an_unknown_field_has_a_hint(self, server, name, hint):
        answer = server.client.post("/v1/edits", json={**edit(), name: "x"})
        assert answer.json()["error"]["message"] == f"there is no such field{hint}"

    @pytest.mark.parametrize(
        ("method", "path", "status", "message"),
        [
            ("GET", "/v1/nothing", 404, "GET /openapi.json lists what there is"),
            ("PUT", "/v1/edits", 405, "this address takes POST"),
        ],
    )
    def test_an_address_that_is_not_there(self, server, method, path, status, message):
        answer = server.client.request(method, path)
        assert answer.status_code == status
        assert message in answer.json()["error"]["message"]

    def test_a_wrong_parameter_of_an_address_is_named(self, server):
        answer = server.client.get("/v1/edits/x/events", params={"changed": "maybe"})
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "code": "invalid_request",
            "message": "'maybe': give true or false",
            "field": "changed",
        }

    def test_a_missing_picture_is_named(self, server):
        error = server.client.post("/v1/edits", json={"prompt": "x"}).json()["error"]
        assert (error["code"], error["field"]) == ("invalid_request", "image")

    def test_files_of_a_form_must_be_files(self, server):
        form = {"prompt": "x", "mask": b64(box_mask())}
        answer = server.client.post("/v1/edits", data=form, files={"image": png(picture())})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "mask")

    def test_a_deadline(self, server):
        answer = server.client.post("/v1/edits", json=edit(steps=200, timeout_s=0.001))
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"


@pytest.fixture
def first_step(monkeypatch):
    """Set = edits make steps; until then they wait, so that a listener is there before them."""
    may_begin, advance = threading.Event(), Denoiser.advance

    def patient(family, images):
        assert may_begin.wait(60)
        advance(family, images)

    monkeypatch.setattr(Denoiser, "advance", patient)
    yield may_begin
    may_begin.set()


class TestLater:
    def test_accepted_followed_and_fetched(self, server, first_step):
        answer = server.client.post(
            "/v1/edits", json=edit(3, 6, previews=2), headers={"prefer": "respond-async"}
        )
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async"
        where = answer.headers["location"]
        with server.client.stream("GET", f"{where}/events") as stream:
            first_step.set()
            told = events(stream.iter_lines())
        names = [name for name, _ in told]
        assert names[-1] == "done"
        assert names.count("preview") == 2
        steps = [data["step"] for name, data in told if name == "step"]
        assert steps == sorted(steps)
        assert steps[-1] == 6
        shown = next(data for name, data in told if name == "preview")
        assert from_b64(shown["image"]).size == (64, 64)
        kept = server.client.get(where).json()
        assert kept == told[-1][1]
        assert kept["images"] == server.client.post("/v1/edits", json=edit(3, 6)).json()["images"]

    def test_what_changed_is_shown_alone_and_the_result_before_it_is_encoded(
        self, server, first_step
    ):
        body = edit(3, 6, previews=1, **{"async": True})
        where = server.client.post("/v1/edits", json=body).headers["location"]
        with server.client.stream("GET", f"{where}/events?changed=true") as stream:
            first_step.set()
            told = events(stream.iter_lines())
        previews = [data for name, data in told if name == "preview"]
        before = picture(64, 64, seed=3)
        whole = before.copy()
        shown = from_b64(previews[-1]["image"])
        assert shown.size < before.size
        whole.paste(shown, (previews[-1]["left"], previews[-1]["top"]))
        assert whole.tobytes() == from_b64(told[-1][1]["images"][0]).convert("RGB").tobytes()

    def test_cancelled_and_forgotten(self, server):
        where = server.client.post("/v1/edits", json=edit(steps=200, **{"async": True})).headers[
            "location"
        ]
        assert server.client.get(where).json()["status"] in ("queued", "running")
        assert server.client.delete(where).json()["status"] == "cancelled"
        assert server.client.get(where).status_code == 404
        server.until(lambda: server.service.batcher.idle)

    def test_the_place_in_the_queue_is_told(self, start):
        server = start(max_images_under_way=1, max_images=1, max_steps=1000)
        places = []
        for seed, steps in ((1, 900), (2, 890), (3, 900)):
            body = edit(seed, steps, **{"async": True})
            places.append(server.client.post("/v1/edits", json=body).headers["location"])
            server.until(lambda where=places[0]: self.status(server, where) == "running")
        # Two may go the express lane; the longest waits.
        server.until(lambda: server.client.get(places[2]).json().get("position") is not None)
        first = events(self.first_lines(server, places[2]))
        assert first[0][0] == "queued"
        for where in places:
            server.client.delete(where)

    def status(self, server, where):
        return server.client.get(where).json()["status"]

    def first_lines(self, server, where):
        with server.client.stream("GET", f"{where}/events") as stream:
            lines = stream.iter_lines()
            return [next(lines), next(lines)]

    def test_failures_are_told_to_those_who_listen_and_those_who_ask(self, server):
        body = edit(steps=200, timeout_s=0.5, **{"async": True})
        where = server.client.post("/v1/edits", json=body).headers["location"]
        with server.client.stream("GET", f"{where}/events") as stream:
            name, data = events(stream.iter_lines())[-1]
        assert name == "error"
        assert data["error"]["code"] == "deadline_exceeded"
        state = server.client.get(where).json()
        assert state["status"] == "failed"
        assert state["error"]["code"] == "deadline_exceeded"

    @pytest.mark.parametrize(
        "id_", ["x", "..", "%2e%2e%2fetc%2fpasswd", "edit_" + "0" * 32, "a" * 5000]
    )
    def test_unknown_ids(self, server, id_):
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            answer = server.client.request(method, f"/v1/edits/{id_}{path}")
            assert answer.status_code in (404, 405)
            assert set(answer.json()) == {"error"}

    def test_results_are_forgotten_after_a_while(self, start):
        server = start(keep_results_s=0.2)
        where = server.client.post("/v1/edits", json=edit(**{"async": True})).headers["location"]
        server.until(lambda: server.client.get(where).status_code == 404)

    def test_results_that_fill_their_memory_are_forgotten_the_oldest_first(self, server, start):
        size = len(server.client.post("/v1/edits", json=edit(0, 1)).json()["images"][0])
        small = start(models=("sd2",), keep_results_mb=2.9 * size / 1e6)
        where = []
        for seed in range(4):
            answer = small.client.post("/v1/edits", json=edit(seed, 1, **{"async": True}))
            where.append(answer.headers["location"])
            small.until(lambda: small.client.get(where[-1]).json()["status"] == "done")
        found = [small.client.get(each).status_code for each in where]
        assert found == [404, 404, 200, 200]

    @pytest.mark.parametrize(
        ("steps", "timeout_s", "end"),
        [(20, 60, "done"), (900, 2, "failed"), (1000, 60, "failed")],
        ids=["done", "too late", "too many steps for the scheduler"],
    )
    @pytest.mark.parametrize("waits", [False, True])
    def test_what_is_kept_of_an_edit_is_its_answer(
        self, start, caplog, steps, timeout_s, end, waits
    ):
        # Those who catch the log for a test's report keep the frames of what it tells.
        caplog.set_level("CRITICAL", logger="overpaint")
        server = start(max_steps=1000)
        jobs, pictures = [], []
        accept = server.service.accept

        def watched(checked, *rest):
            pictures.append(weakref.ref(checked.request.image))
            jobs.append(accept(checked, *rest))
            return jobs[-1]

        server.service.accept = watched
        more = {"headers": {"idempotency-key": "k"}} if waits else {}
        body = edit(7, steps, size=256, timeout_s=timeout_s, **({} if waits else {"async": True}))
        server.client.post("/v1/edits", json=body, **more)
        server.until(lambda: jobs[0].end_time is not None)
        assert jobs[0].status == end
        assert (jobs[0].size > 0) == (end == "done")
        if waits:
            again = server.client.post("/v1/edits", json=body, **more)
            # What failed for a reason that passes is made anew.
            assert len(jobs) == (2 if timeout_s < 60 else 1)
            assert (again.status_code == 200) == (end == "done")
        # Who computes may remember the last one.
        server.client.post("/v1/edits", json=edit(steps=1))
        server.until(lambda: gc.collect() >= 0 and pictures[0]() is None)


class TestIdempotency:
    def test_the_same_key_gives_the_first_answer(self, server):
        body = {**edit(), "seed": None}
        headers = {"idempotency-key": "k1"}
        first = server.client.post("/v1/edits", json=body, headers=headers).json()
        again = server.client.post("/v1/edits", json=body, headers=headers).json()
        assert again == first
        other = server.client.post("/v1/edits", json=body).json()
        assert other["seeds"] != first["seeds"]

    def test_the_same_key_for_something_else_is_a_conflict(self, server):
        headers = {"idempotency-key": "k2"}
        server.client.post("/v1/edits", json=edit(1), headers=headers)
        answer = server.client.post("/v1/edits", json=edit(2), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")

    def test_a_caller_that_hung_up_comes_back_for_it(self, server):
        body, headers = edit(4, 200), {"idempotency-key": "k3"}
        with asking(server, "/v1/edits", body, **headers):
            server.until(lambda: not server.service.batcher.idle)
        assert server.client.post("/v1/edits", json=body, headers=headers).status_code == 200


class TestModels:
    def test_options_are_told_as_a_schema(self, server):
        listed = server.client.get("/v1/models").json()
        assert [each["id"] for each in listed["data"]] == ["sd2", "flex2", "kontext", "erase"]
        sd2 = listed["data"][0]
        assert sd2["options"]["properties"]["num_inference_steps"]["default"] == 50
        assert sd2["accepts"]["mask"] == "required"
        assert sd2["loaded"] is True
        assert server.client.get("/v1/models/sd2").json() == sd2
        assert server.client.get("/v1/models/none").status_code == 404
        assert (sd2["licence"], sd2["licence_url"], sd2["restrictions"]) == ("unknown", None, [])
        erase = server.client.get("/v1/models/erase").json()
        assert erase["licence_url"].startswith("https://www.apache.org/")
        assert erase["restrictions"]

    def test_a_family_and_an_alias_name_a_model(self, start, make_settings):
        server = start(models=("sd2", "erase"), aliases={"gpt-image-2": "sd2"})
        for name in ("sd2", "gpt-image-2", None):
            answer = server.client.post("/v1/edits", json={**edit(), "model": name})
            assert answer.json()["recipe"]["model"]["name"] == "sd2"

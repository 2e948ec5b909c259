"""What a server's machine has, what it may fetch, and models that are fetched while it runs."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file

from overpaint.apps.settings import ModelSettings, ServerSettings
from tests.apps.server.conftest import edit, serving
from tests.checkpoints.test_loras import component, factors, kohya_names, linears
from tests.hub_server import Hub, point_client_at
from tests.hub_server import serving as hub_serving


@pytest.fixture
def hub(checkpoint_folder, monkeypatch):
    """A hub that has one tiny model."""
    offered = Hub()
    offered.add(checkpoint_folder("sd2"))
    with hub_serving(offered):
        point_client_at(offered.url, monkeypatch)
        yield offered


@pytest.fixture
def desk(make_settings, tmp_path):
    """(**server settings) → settings of a server that may fetch a model called `far`."""

    def settings(**server):
        base = make_settings(models=("erase",), **server)
        far = ModelSettings(family="sd2", hub="owner/model")
        return base.model_copy(
            update={"models": {**base.models, "far": far}, "cache": tmp_path / "cache"}
        )

    return settings


def entry(running, name: str) -> dict:
    listed = running.client.get("/v1/catalogue").json()["data"]
    return next(each for each in listed if each["name"] == name)


def test_a_model_is_fetched_and_served_at_once(hub, desk):
    with serving(desk()) as running:
        assert entry(running, "far")["state"] == "not pulled"
        assert running.client.post("/v1/edits", json=edit() | {"model": "far"}).status_code == 404
        begun = running.client.post("/v1/models/far/pull")
        assert begun.status_code == 202
        where = "/v1/models/far/pull"
        running.until(lambda: running.client.get(where).json()["status"] == "done")
        done = running.client.get(where).json()
        assert 0 < done["bytes_done"] == done["bytes_total"]
        assert entry(running, "far")["state"] == "ready"
        assert entry(running, "far")["is_served"]
        assert running.client.post("/v1/edits", json=edit() | {"model": "far"}).status_code == 200


def test_what_goes_wrong_is_told(hub, desk):
    hub.gated = True
    with serving(desk()) as running:
        running.client.post("/v1/models/far/pull")
        where = "/v1/models/far/pull"
        running.until(lambda: running.client.get(where).json()["status"] == "failed")
        assert "accept its licence" in running.client.get(where).json()["error"]["message"]
        assert not entry(running, "far")["is_served"]


def test_what_cannot_be_fetched(desk, monkeypatch, checkpoint_folder):
    monkeypatch.chdir(checkpoint_folder("sd2").parent)
    with serving(desk()) as running:
        for name, status in {"erase": 400, "sd2": 400, "nowhere": 404, "flux": 404}.items():
            assert running.client.post(f"/v1/models/{name}/pull").status_code == status
            assert running.client.get(f"/v1/models/{name}/pull").status_code == 404
            assert running.client.delete(f"/v1/models/{name}/pull").status_code == 404


def test_servers_for_others_fetch_nothing_unless_told_to(desk):
    with serving(desk(pulls=False)) as running:
        refused = running.client.post("/v1/models/far/pull")
        assert refused.status_code == 403
        assert "server.pulls = true" in refused.json()["error"]["message"]
        assert running.client.get("/v1/limits").json()["can_pull"] is False


@pytest.mark.parametrize(
    ("server", "local", "allowed"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"pulls": True}, False, True),
        ({"allowed_hosts": ("edit.example.org",)}, True, False),
    ],
)
def test_who_may_have_models_fetched(server, local, allowed):
    assert ServerSettings(**server).may_pull(loopback_only=local) is allowed


def test_adapters_of_a_folder_go_along_in_the_models_name(
    make_settings, checkpoint_folder, tmp_path
):
    unet = component(checkpoint_folder, "sd2", "unet")
    names = kohya_names(factors(linears(unet)), "lora_unet")
    save_file(names, tmp_path / "rough.safetensors")
    settings = make_settings(models=("sd2", "erase"))
    with serving(settings.model_copy(update={"adapters": tmp_path})) as running:
        listed = {each["id"]: each for each in running.client.get("/v1/models").json()["data"]}
        assert listed["sd2"]["adapters"] == ["rough"]
        assert listed["erase"]["adapters"] == []

        def made(model: str) -> dict:
            return running.client.post("/v1/edits", json=edit() | {"model": model}).json()

        plain, off, half, full = map(made, ("sd2", "sd2+rough@0", "sd2+rough@0.5", "sd2+rough"))
        assert plain["images"] == off["images"]
        assert len({each["images"][0] for each in (plain, half, full)}) == 3
        assert half["recipe"]["model"]["loras"][0]["scale"] == 0.5
        assert made("sd2+smooth")["error"]["code"] == "model_not_found"
        assert made("erase+rough")["error"]["code"] == "model_not_found"


def test_the_catalogue_says_what_fits(server):
    listed = server.client.get("/v1/catalogue").json()
    assert listed["machine"]
    by_task = {each["task"] for each in listed["data"]}
    assert by_task == {"inpaint", "edit", "erase", "segment"}
    assert all(each["fit"] for each in listed["data"])
    assert sum(each["is_recommended"] for each in listed["data"]) == 3
    limits = server.client.get("/v1/limits").json()
    assert limits["max_megapixels"] == 25

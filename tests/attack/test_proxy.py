"""Behind a proxy that terminates TLS, as docs/serving.md recommends it."""

from __future__ import annotations

import shutil
import ssl
import threading
import time

import httpx
import pytest

from overpaint.diffusion.denoiser import Denoiser
from tests.apps.server.conftest import b64, edit, png, serving
from tests.attack import tls_proxy
from tests.attack.conftest import KEYS, header_of
from tests.attack.tls_proxy import PUBLIC
from tests.conftest import box_mask, picture

ORIGIN = {"origin": f"https://{PUBLIC}"}
PROXIES = {"plain": tls_proxy.plain, "nginx": tls_proxy.nginx}


@pytest.fixture(scope="module")
def behind(make_settings):
    """The server as it listens behind a proxy: on this machine alone, with a public name."""
    limits = {"allowed_hosts": (PUBLIC,), "keys": KEYS}
    with serving(make_settings(models=("sd2", "erase"), **limits)) as running:
        yield running


@pytest.fixture(scope="module", params=PROXIES)
def client(request, behind, tmp_path_factory):
    if request.param == "nginx" and shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    tls_proxy.certificate(folder)
    proxy = PROXIES[request.param](folder, int(behind.url.rsplit(":", 1)[1]))
    trusted = ssl.create_default_context(cafile=folder / tls_proxy.CHAIN)
    headers = {"host": PUBLIC, **header_of("good")}
    with proxy as port, client_of(f"https://127.0.0.1:{port}", headers, trusted) as client:
        yield client


def client_of(url, headers, trusted) -> httpx.Client:
    hooks = {"request": [_named]}
    return httpx.Client(
        base_url=url,
        headers=headers,
        verify=trusted,
        trust_env=False,
        timeout=60,
        event_hooks=hooks,
    )


def _named(request) -> None:
    """TLS is about the public name, whatever address it resolves to."""
    request.extensions["sni_hostname"] = PUBLIC


def test_the_page_and_its_files(client):
    page = client.get("/", headers={**ORIGIN, "accept": "text/html"})
    assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
    assert client.get("/page/session.js").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (ORIGIN, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"host": "evil.example"}, 403),
        ({"authorization": "Bearer " + "x" * 24}, 401),
    ],
)
def test_names_origins_and_keys(client, headers, status):
    assert client.get("/v1/models", headers=headers).status_code == status


def test_where_it_leads_to_is_under_the_same_name(client):
    answer = client.get("/v1/models/")
    assert (answer.status_code, answer.headers["location"]) == (307, f"https://{PUBLIC}/v1/models")


def test_an_edit_and_its_address(client):
    answer = client.post("/v1/edits", json={**edit(), "async": True}, headers=ORIGIN)
    assert answer.status_code == 202
    where = answer.headers["location"]
    assert where.startswith("/")
    end = time.monotonic() + 60
    while (state := client.get(where).json())["status"] != "done":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(state["images"]) == 1


def test_events_come_while_the_edit_is_made(client, monkeypatch):
    heard, advance = threading.Event(), Denoiser.advance

    def patient(family, images):
        """The last steps wait until somebody has heard of the first."""
        assert images[0].step == 0 or heard.wait(30)
        advance(family, images)

    monkeypatch.setattr(Denoiser, "advance", patient)
    where = client.post("/v1/edits", json={**edit(), "async": True}).headers["location"]
    kinds = []
    with client.stream("GET", f"{where}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if kinds[-1] == "step":
                    heard.set()
    assert kinds[-1] == "done"


def test_sessions(client):
    answer = client.post("/v1/sessions", json={"image": b64(picture(64, 64))}, headers=ORIGIN)
    assert answer.status_code == 201, answer.text
    where = answer.headers["location"]
    turn = {name: edit()[name] for name in ("mask", "prompt", "options", "model")}
    answer = client.post(f"{where}/turns", json={**turn, "revision": 1}, headers=ORIGIN)
    assert answer.status_code == 202, answer.text
    edited = client.get(f"/v1/edits/{answer.json()['id']}/events")
    assert "event: done" in edited.text
    shown = client.get(f"{where}/turns/1/picture")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    again = client.get(f"{where}/turns/1/picture", headers={"if-none-match": shown.headers["etag"]})
    assert again.status_code == 304
    assert client.get(f"{where}/export").content.startswith(b"PK")


def test_a_large_picture_passes(client):
    """nginx lets a megabyte through unless it is configured."""
    noise = png(picture(32, 32).resize((1000, 1000)).effect_spread(400))
    assert len(noise) > 1_500_000
    files = {"image": noise, "mask": png(box_mask(1000, 1000, (400, 400, 420, 420)))}
    answer = client.post("/v1/edits", data={"model": "erase"}, files=files)
    assert answer.status_code == 200, answer.text

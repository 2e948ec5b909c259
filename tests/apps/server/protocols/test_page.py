"""The page's files over HTTP: who gets them, what a browser may do with them, and caching."""

from __future__ import annotations

import re

import httpx
import pytest

from overpaint.apps.server.protocols import page

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
KEY = "0123456789abcdef0123"


def test_a_browser_gets_the_page_and_a_probe_that_all_is_well(server):
    shown = server.client.get("/", headers=BROWSER)
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Overpaint</title>" in shown.text
    assert server.client.get("/").text == "Healthy"
    assert server.client.head("/", headers=BROWSER).content == b""


def test_what_the_page_may_do(server):
    policy = server.client.get("/", headers=BROWSER).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    html = page.assets()[page.INDEX].content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", html)


def test_the_page_speaks_plainly():
    html = page.assets()[page.INDEX].content.decode()
    seen = re.sub(r"<[^>]*>", " ", html)
    said = " ".join([seen, *re.findall(r'(?:title|aria-label|placeholder)="([^"]*)"', html)])
    assert "Drop a picture here" in said
    assert re.findall(r"\b(?:shall|told|drawn|whoever|against)\b", said) == []


def test_all_that_the_page_names_is_there_and_here(server):
    for name, asset in page.assets().items():
        if not asset.type.startswith("image/") or name.endswith(".svg"):
            text = asset.content.decode()
            named = re.findall(r"(?:/page/|(?:from |import\()\"\./)([\w.-]+)", text)
            assert set(named) <= set(page.assets()), name
            assert not re.search(r"https?://(?!www\.w3\.org)", text), name
        answer = server.client.get(f"/page/{name}")
        assert (answer.status_code, answer.content) == (200, asset.content)
        assert answer.headers["content-type"] == asset.type


def test_the_page_is_light(server):
    """All its files as they are sent, whatever a visit needs of them."""
    sent = 0
    for name, asset in page.assets().items():
        path = f"/page/{name}"
        with server.client.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
            packed = sum(map(len, answer.iter_raw()))
        assert packed == int(answer.headers["content-length"]) <= len(asset.content)
        sent += packed
    assert sent <= 150_000
    plain = server.client.get("/page/main.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == page.assets()["main.js"].content


def test_an_unchanged_file_is_not_sent_again(server):
    first = server.client.get("/page/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = server.client.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.client.get("/v1/models").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/page/nope.js", "/page/..%2fpage.py", "/page/%2e%2e/page.py"])
def test_nothing_else_is_there(server, path):
    assert httpx.get(server.url + path, trust_env=False).status_code == 404


def test_the_page_needs_no_key_and_its_data_do(start):
    guarded = start(keys={"me": KEY})
    assert guarded.client.get("/", headers=BROWSER).status_code == 200
    assert guarded.client.get("/page/main.js").status_code == 200
    assert guarded.client.get("/v1/models").status_code == 401
    assert guarded.client.post("/v1/segments", json={}).status_code == 401

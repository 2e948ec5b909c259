"""Bodies that two readers may understand differently: read rightly, or refused by name."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from overpaint.core.errors import InvalidImage
from overpaint.core.imaging import encoded
from overpaint.core.imaging.encoded import from_base64
from tests.apps.server.conftest import b64, png
from tests.conftest import box_mask, picture

FILE = png(picture(64, 64))
MASK = png(box_mask(64, 64))
FORM = {"content-type": "multipart/form-data; boundary=x"}
JSON = {"content-type": "application/json"}


def part(name, value, more="") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + (
        value if isinstance(value, bytes) else value.encode()
    )


def form(*parts, end=b"--x--\r\n") -> bytes:
    return b"\r\n".join([*parts, end])


IMAGE = part("image", FILE, '; filename="a.png"')
ERASE = part("mask", MASK, '; filename="m.png"'), IMAGE, part("model", "erase")


class TestForms:
    @pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits"])
    @pytest.mark.parametrize("end", [b"", b"--x\r\n", b"--x-", b"--x\r\nContent-Dispo"])
    def test_a_body_that_was_cut_off_is_refused(self, server, path, end):
        """Its mask may be what is lost: the whole picture would be edited."""
        body = form(IMAGE, part("prompt", "a cat"), part("mask", MASK, '; filename="m"'), end=end)
        answer = server.client.post(path, content=body, headers=FORM)
        assert answer.status_code == 400
        assert "last boundary" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("end", [b"--x--", b"--x--\r\n", b"--x--\r\nan epilogue"])
    def test_a_whole_one_is_read(self, server, end):
        answer = server.client.post("/v1/edits", content=form(*ERASE, end=end), headers=FORM)
        assert answer.status_code == 200, answer.text

    def test_a_file_may_be_named_in_the_extended_way(self, server):
        image = part("image", FILE, "; filename*=utf-8''na%C3%AFve.png")
        answer = server.client.post(
            "/v1/edits", content=form(image, ERASE[0], ERASE[2]), headers=FORM
        )
        assert answer.status_code == 200, answer.text

    @pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits"])
    def test_a_prompt_that_is_not_utf_8_is_refused_by_name(self, server, path):
        body = form(IMAGE, part("prompt", "caf\xe9".encode("latin-1")))
        error = server.client.post(path, content=body, headers=FORM).json()["error"]
        assert "UTF-8" in error["message"]
        assert error.get("field", error.get("param")) == "prompt"

    def test_another_charset_is_refused(self, server):
        headers = {"content-type": "multipart/form-data; boundary=x; charset=utf-16"}
        answer = server.client.post("/v1/edits", content=form(*ERASE), headers=headers)
        assert answer.status_code == 400


class TestJson:
    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            ("/v1/edits", '{"image": "%s", "seed": 1, "seed": 2}', "seed"),
            ("/v1/edits", '{"image": "%s", "options": {"grow": 1, "grow": 2}}', "grow"),
            ("/v2/models/sd2/infer", '{"inputs": [], "id": "%s", "id": "b"}', "id"),
            ("/v1/sessions", '{"image": "%s", "name": "a", "name": "b"}', "name"),
            ("/v1/segments", '{"image": "%s", "text": "a", "text": "b"}', "text"),
            ("/score", '{"input_data": [{"image": "%s", "prompt": "a", "prompt": "b"}]}', "prompt"),
        ],
    )
    def test_a_key_that_comes_twice_is_refused_by_name(self, server, path, body, field):
        answer = server.client.post(path, content=body % b64(picture(64, 64)), headers=JSON)
        assert answer.status_code == 400, answer.text
        assert field in answer.text
        assert "twice" in answer.text

    def test_options_of_a_form_too(self, server):
        body = form(*ERASE, part("options", '{"grow": 1, "grow": 2}'))
        error = server.client.post("/v1/edits", content=body, headers=FORM).json()["error"]
        assert (error["field"], error["message"]) == ("grow", "the field is given twice")


PLAIN = base64.b64encode(FILE).decode()
URL_SAFE = base64.urlsafe_b64encode(FILE).decode()


class TestBase64:
    @pytest.mark.parametrize(
        "text",
        [
            PLAIN,
            f"data:image/png;base64,{PLAIN}",
            f"DATA:Image/PNG;Base64,{PLAIN}",
            f"data:image/png;charset=utf-8;name=a.png;base64,{PLAIN}",
            f"data:;base64,{PLAIN}",
            f"data:image/svg+xml;base64,{PLAIN}",
            f" data:image/png;base64,\n{PLAIN}",
            URL_SAFE,
            URL_SAFE.rstrip("="),
            "\n".join(PLAIN[start : start + 76] for start in range(0, len(PLAIN), 76)),
        ],
    )
    def test_is_read_in_every_form(self, text):
        assert from_base64(text, "image") == FILE

    @pytest.mark.parametrize("length", range(25, 37))
    def test_long_texts_are_read_in_pieces(self, monkeypatch, length):
        monkeypatch.setattr(encoded, "_PIECE", 16)
        assert from_base64(base64.b64encode(FILE[:length]).decode(), "image") == FILE[:length]

    @pytest.mark.parametrize("text", ["AAAAAAAAAAAAAAA=AAAA", "AA==AAAA", "AAA=AAA="])
    def test_padding_stands_at_the_end_alone(self, monkeypatch, text):
        monkeypatch.setattr(encoded, "_PIECE", 16)
        with pytest.raises(InvalidImage, match="not base64"):
            from_base64(text, "image")

    def test_the_alphabet_for_urls_matters(self):
        assert from_base64("-_-_", "image") == from_base64("+/+/", "image") == b"\xfb\xff\xbf"

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("data:image/png,%89PNG", "add ;base64"),
            ("https://example.org/a.png", "a URL"),
            ("HTTPS:\\\\example.org\\a.png", "not base64"),
            ("aaaaa", "not base64"),
            ("a=aa", "not base64"),
            ("é", "not base64"),
        ],
    )
    def test_else_it_is_refused_by_name(self, text, why):
        with pytest.raises(InvalidImage, match=why) as caught:
            from_base64(text, "mask")
        assert caught.value.field == "mask"


@pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits", "/score", "/v1/segments"])
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_body_is_refused_by_name(server, path, coding):
    body = gzip.compress(b" " * 2**20)
    answer = server.client.post(path, content=body, headers={**JSON, "content-encoding": coding})
    assert answer.status_code == 415
    assert "Content-Encoding" in json.dumps(answer.json())

"""What other servers of this kind were attacked with, by their published advisories."""

from __future__ import annotations

import ast
import json
import os
import pickle
import socket
from pathlib import Path

import psutil
import pytest

import overpaint
from overpaint.apps.server import errors as answers
from overpaint.apps.settings import RemoteSettings
from overpaint.apps.settings.safety import AzureSettings
from overpaint.apps.wiring import remote
from overpaint.core.errors import InvalidRequest
from tests.apps.server.conftest import b64, edit, png, serving
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.apps.server.protocols.test_sessions import begin
from tests.conftest import box_mask, picture

SRC = Path(overpaint.__file__).parent
IMAGE, MASK = picture(64, 64), box_mask(64, 64)


class Bomb:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self._mark),)


class TestPickle:
    """Sockets and files from which other servers unpickle what anybody sends."""

    @pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", "text/csv"])
    def test_no_body_is_unpickled(self, server, tmp_path, kind):
        mark = tmp_path / "unpickled"
        body = pickle.dumps(Bomb(mark))
        for path in ("/v1/edits", "/v1/images/edits", "/score", "/invocations", "/v1/segments",
                     "/v2/models/sd2/infer", "/v1/sessions", "/v1/sessions/import"):  # fmt: skip
            answer = server.client.post(path, content=body, headers={"content-type": kind})
            assert answer.status_code in (400, 415), path
        files = {"image": ("a.pkl", body), "mask": ("m.pkl", body)}
        answer = server.client.post("/v1/edits", data={"model": "erase"}, files=files)
        assert answer.status_code == 400
        wire = socket.create_connection(address(server), timeout=10)
        wire.sendall(body + b"\r\n\r\n")
        assert b" 400 " in wire.recv(4096)
        wire.close()
        assert not mark.exists()

    def test_there_is_one_door(self, server):
        """No second socket, of workers or of a queue, on which something else is spoken."""
        listening = [
            each.laddr.port
            for each in psutil.Process().net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ]
        assert address(server)[1] in listening
        for port in set(listening):
            wire = socket.create_connection(("127.0.0.1", port), timeout=10)
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert wire.recv(64).startswith(b"HTTP/1.1 ")
            wire.close()

    def test_nothing_in_the_package_unpickles(self):
        calls = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
        for file in set(SRC.rglob("*.py")) - {SRC / "jobs" / "ray.py"}:  # between Ray's own workers
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    assert not {each.name.split(".")[0] for each in node.names} & calls, file
                if isinstance(node, ast.ImportFrom):
                    assert (node.module or "").split(".")[0] not in calls, file
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), file


NAMES = [
    "../../leak.png",
    "/tmp/overpaint-attack/leak.png",
    "..\\..\\leak.png",
    "C:\\leak.png",
    "a\0.png",
    "a/../../../leak.png",
    "%2e%2e%2fleak.png",
    "~/leak.png",
    "\\\\evil.example\\share\\leak.png",
]


class TestNamesOfUploads:
    """A file's name is never a place on the server."""

    @pytest.mark.parametrize("name", NAMES)
    def test_say_nothing(self, server, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        files = {"image": (name, png(IMAGE)), "mask": (name, png(MASK))}
        answer = server.client.post("/v1/edits", data={"model": "erase"}, files=files)
        assert answer.status_code == 200, answer.text
        files["mask"] = (name, png(transparent_mask()))
        answer = server.client.post("/v1/images/edits", data={"model": "erase"}, files=files)
        assert answer.status_code == 200, answer.text
        assert list(tmp_path.iterdir()) == []
        for folder in (tmp_path.parent, tmp_path.parent.parent, Path("/tmp"), Path.home()):
            assert not (folder / "leak.png").exists()
        assert not Path("/tmp/overpaint-attack").exists()

    @pytest.mark.parametrize("path", [
        "/page/../app.py", "/page/..%2fapp.py", "/page/..\\app.py", "/page/%2e%2e/app.py",
        "/page//etc/passwd", "/page/..%5capp.py", "/page/main.js/../../app.py",
    ])  # fmt: skip
    def test_of_the_pages_files_stay_in_their_folder(self, server, path):
        wire = socket.create_connection(address(server), timeout=10)
        wire.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: wire.recv(65536), b""))
        wire.close()
        assert received.split(b" ")[1] in (b"404", b"400")
        assert b"import" not in received

    @pytest.mark.parametrize("turn", ["..", "..%2f..", "0/../../x", "..\\..", "%00"])
    def test_of_turns_are_no_paths(self, server, turn):
        session = begin(server.client)
        where = f"/v1/sessions/{session['id']}/turns/{turn}/picture"
        assert server.client.get(where).status_code in (400, 404)


URLS = [
    "http:\\\\127.0.0.1:9\\a.png",
    "http://127.0.0.1:9\\@example.org/a.png",
    "\\\\127.0.0.1\\share\\a.png",
    "/\\127.0.0.1:9/a.png",
    "https:/\\127.0.0.1:9/a.png",
    "file:\\\\\\etc\\passwd",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "http://127.0.0.1:9/a.png",
]


class TestUrls:
    """Nothing is fetched, however its address is written."""

    @pytest.mark.parametrize("url", URLS)
    def test_are_no_pictures(self, server, monkeypatch, url):
        def connect(*_):
            raise AssertionError("the server went out")

        body = {"model": "erase", "image": url, "mask": b64(MASK)}
        rows = {"input_data": [{"prompt": "a", "image": url, "mask_image": b64(MASK)}]}
        data = {"model": "erase", "image": url}
        with monkeypatch.context() as patched:
            client = server.client
            client.get("/healthz")  # its connection is there
            patched.setattr(socket, "getaddrinfo", connect)
            for answer in (
                client.post("/v1/edits", json=body),
                client.post("/score", json=rows),
                client.post("/v1/images/edits", data=data, files={"mask": ("m", png(MASK))}),
                client.post("/v1/segments", json={"image": url, "text": "a"}),
                client.post("/v1/sessions", json={"image": url}),
            ):
                assert answer.status_code == 400, answer.text

    @pytest.mark.parametrize("url", ["http:\\\\127.0.0.1:9", "\\\\127.0.0.1", "//127.0.0.1:9"])
    def test_of_servers_are_written_in_the_one_way(self, url):
        with pytest.raises(InvalidRequest, match="URL"):
            remote.Server(url, RemoteSettings())

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9\\@evil.example", "http://a@127.0.0.1:9"])
    def test_and_name_one_server_only(self, url):
        """What one reader takes for a name and a password is the host to another."""
        with pytest.raises(InvalidRequest, match="URL"):
            remote.Server(url, RemoteSettings())


class TestAddressesInErrors:
    """What an error says tells nobody where the server's own services and files are."""

    def test_a_checker_that_does_not_answer(self, make_settings):
        settings = make_settings(models=("sd2",))
        azure = AzureSettings(endpoint="http://127.0.0.1:9", key="secret-key", timeout_s=0.5)
        safety = settings.safety.model_copy(update={"azure": azure})
        with serving(settings.model_copy(update={"safety": safety})) as server:
            answer = server.client.post("/v1/edits", json=edit(steps=1))
            assert (answer.status_code, bool(answer.headers["retry-after"])) == (503, True)
            for private in ("127.0.0.1", "secret-key", "http"):
                assert private not in answer.text

    @pytest.mark.parametrize(
        "error",
        [
            OSError("cannot connect to http://10.1.2.3:8080/v1 (secret.internal)"),
            ValueError("/srv/models/private/unet/config.json: not JSON"),
            remote.RemoteError("http://10.1.2.3:8080 cannot be reached"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("path", ["/v1/edits", "/v1/images/edits", "/v2/models/a", "/score"])
    def test_an_unexpected_one(self, error, path):
        body = json.dumps(answers.body(error, path))
        for private in ("10.1.2.3", "secret.internal", "/srv", "8080"):
            assert private not in body

    def test_a_store_that_cannot_be_reached(self, make_settings):
        settings = make_settings(models=("erase",))
        url = "postgresql+psycopg://user:password@10.255.255.1:1/db?connect_timeout=1"
        chosen = settings.sessions.model_copy(update={"url": url})
        with serving(settings.model_copy(update={"sessions": chosen})) as server:
            answer = server.client.post("/v1/sessions", json={"image": b64(IMAGE)})
            assert answer.status_code >= 500
            for private in ("10.255", "password", "user", "psycopg"):
                assert private not in answer.text

    def test_a_model_that_is_not_there(self, server):
        answer = server.client.post("/v1/edits", json={**edit(), "model": "/etc/passwd"})
        assert answer.status_code == 404
        assert "/tmp" not in answer.text


def address(server) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)

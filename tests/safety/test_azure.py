"""Azure AI Content Safety through its real SDK, against a server that speaks its contract."""

from __future__ import annotations

import base64
import io
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import build
from overpaint.core.errors import ContentBlocked, InvalidSettings, SafetyUnavailable
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.safety.azure import AzureImages, AzureText, ContentSafety
from overpaint.safety.policy import Policy
from tests.servers import listening

pytest.importorskip("azure.ai.contentsafety", exc_type=ImportError)

NAMES = ("Hate", "SelfHarm", "Sexual", "Violence")
SECRET = "a very private wish"


def analysis(**severities: int) -> dict:
    return {
        "categoriesAnalysis": [
            {"category": name, "severity": severities.get(name, 0)} for name in NAMES
        ]
    }


class Azure(ThreadingHTTPServer):
    """Answers with what `replies` hold, the last one again and again: (status, body, headers)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple] = [(200, analysis(), {})]
        self.asked: list[tuple] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        server.asked.append((self.path, dict(self.headers), body))
        status, answer, headers = (
            server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
        )
        if status == 0:
            time.sleep(answer)
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        """Quiet."""


@pytest.fixture
def azure():
    server = Azure()
    with listening(server):
        yield server


def service(azure, seconds=60.0) -> ContentSafety:
    return ContentSafety(azure.url, key="secret-key", client_id=None, timeout_s=seconds)


class TestContract:
    def test_text(self, azure):
        azure.replies = [(200, analysis(Violence=4), {})]
        found = AzureText(service(azure)).check(SECRET)
        assert found == {"hate": 0, "self_harm": 0, "sexual": 0, "violence": 4}
        path, headers, body = azure.asked[0]
        assert path.startswith("/contentsafety/text:analyze?api-version=")
        assert headers["Ocp-Apim-Subscription-Key"] == "secret-key"
        assert body["text"] == SECRET

    def test_long_texts_go_in_pieces_and_the_worst_counts(self, azure):
        azure.replies = [(200, analysis(Hate=2), {}), (200, analysis(Hate=6), {})]
        azure.replies.append((200, analysis(), {}))
        text = "".join(str(number % 10) for number in range(25_000))
        assert AzureText(service(azure)).check(text)["hate"] == 6
        pieces = [body["text"] for _, _, body in azure.asked]
        assert max(map(len, pieces)) <= 10_000
        assert pieces[0] + "".join(piece[500:] for piece in pieces[1:]) == text

    @pytest.mark.parametrize(("matches", "severity"), [([], 0), ([{}], 6)])
    def test_blocklists(self, azure, matches, severity):
        found = [{"blocklistName": "b", "blocklistItemId": "1", "blocklistItemText": "x"}]
        answer = analysis() | {"blocklistsMatch": found if matches else []}
        azure.replies = [(200, answer, {})]
        assert AzureText(service(azure), ["b"]).check("x")["blocklist"] == severity
        assert azure.asked[0][2]["blocklistNames"] == ["b"]

    @pytest.mark.parametrize("size", [(64, 64), (10, 3000), (4000, 3000), (1, 1)])
    def test_pictures_fit_the_limits(self, azure, size):
        found = AzureImages(service(azure)).check(Image.effect_noise(size, 90).convert("RGB"))
        assert set(found.values()) == {0}
        sent = base64.b64decode(azure.asked[0][2]["image"]["content"])
        assert len(sent) <= 4 * 2**20
        assert all(50 <= side <= 2048 for side in Image.open(io.BytesIO(sent)).size)


FAULTS = {
    "500": (500, {"error": {"code": "InternalError", "message": SECRET}}, {}),
    "429": (429, {"error": {"code": "TooManyRequests", "message": SECRET}}, {"retry-after": "1"}),
    "401": (401, {"error": {"code": "Unauthorized", "message": SECRET}}, {}),
    "400": (400, {"error": {"code": "InvalidRequestBody", "message": SECRET}}, {}),
    "no JSON": (200, b"<html>", {}),
    "empty": (200, {}, {}),
    "a category is missing": (
        200,
        {"categoriesAnalysis": analysis()["categoriesAnalysis"][1:]},
        {},
    ),
    "no severity": (200, {"categoriesAnalysis": [{"category": name} for name in NAMES]}, {}),
    "silence": (0, 3, {}),
}


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("mode", ["annotate", "block"])
    def test_nothing_passes_unchecked(self, azure, fault, mode, caplog):
        azure.replies = [FAULTS[fault]]
        policy = Policy(mode=mode, text_checkers=[AzureText(service(azure, 0.6))])
        request = EditRequest(image=Picture(Image.new("RGB", (8, 8))), prompt=SECRET)
        started = time.monotonic()
        with pytest.raises(SafetyUnavailable) as failed:
            policy.check_request(request)
        assert time.monotonic() - started < 30
        assert SECRET not in str(failed.value) + caplog.text

    def test_faults_that_pass_are_waited_for(self, azure):
        azure.replies = [FAULTS["429"], FAULTS["500"], (200, analysis(Sexual=2), {})]
        assert AzureText(service(azure, 20)).check("x")["sexual"] == 2
        assert len(azure.asked) == 3

    def test_nobody_listens(self):
        silent = ContentSafety("http://127.0.0.1:9", key="k", client_id=None, timeout_s=0.3)
        with pytest.raises(SafetyUnavailable):
            AzureText(silent).check("x")


class TestSettings:
    """The variables of Azure's samples."""

    def test_an_endpoint_alone_switches_checking_on(self, azure, settings_file, monkeypatch):
        file = settings_file()
        file.write_text(file.read_text().removesuffix("[safety]"))
        monkeypatch.setenv("CONTENT_SAFETY_ENDPOINT", azure.url)
        monkeypatch.setenv("CONTENT_SAFETY_KEY", "secret-key")
        monkeypatch.setenv("CONTENT_SAFETY_THRESHOLD", "4")
        policy = build.engine(lazy=True).policy
        assert (policy.mode, policy.thresholds["hate"]) == ("block", 4)
        assert [each.name for each in policy.text_checkers] == ["azure text"]
        assert [each.name for each in policy.image_checkers] == ["azure images"]
        azure.replies = [(200, analysis(Hate=4), {})]
        with pytest.raises(ContentBlocked):
            policy.check_request(
                EditRequest(image=Picture(Image.new("RGB", (8, 8))), prompt=SECRET)
            )
        assert "secret-key" not in repr(settings_.load())

    def test_off_in_the_file_stays_off(self, azure, settings_file, monkeypatch):
        settings_file('mode = "off"')
        monkeypatch.setenv("CONTENT_SAFETY_ENDPOINT", azure.url)
        assert not build.engine(lazy=True).policy.checks

    def test_a_key_without_an_endpoint_is_an_error(self, settings_file, monkeypatch):
        settings_file()
        monkeypatch.setenv("CONTENT_SAFETY_KEY", "secret-key")
        with pytest.raises(InvalidSettings, match="CONTENT_SAFETY_KEY"):
            settings_.load()

    @pytest.mark.parametrize("threshold", ["high", "8", "-1"])
    def test_a_wrong_threshold_is_an_error(self, settings_file, monkeypatch, threshold):
        settings_file()
        monkeypatch.setenv("CONTENT_SAFETY_THRESHOLD", threshold)
        with pytest.raises(InvalidSettings, match="threshold") as caught:
            settings_.load()
        assert caught.value.field == "CONTENT_SAFETY_THRESHOLD"

    def test_a_wrong_endpoint_names_its_variable(self, settings_file, monkeypatch):
        settings_file()
        monkeypatch.setenv("CONTENT_SAFETY_ENDPOINT", "nowhere")
        with pytest.raises(InvalidSettings) as caught:
            settings_.load()
        assert caught.value.field == "CONTENT_SAFETY_ENDPOINT"

    def test_a_wrong_threshold_of_the_file_names_the_file(self, settings_file, monkeypatch):
        file = settings_file("threshold = 8")
        with pytest.raises(InvalidSettings) as caught:
            settings_.load()
        assert caught.value.field == str(file)

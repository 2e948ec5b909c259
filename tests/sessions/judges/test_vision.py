"""A vision model as judge, through OpenAI's real client, and features of CLIP and DINO."""

from __future__ import annotations

import base64
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from overpaint.apps.settings import JudgeSettings, SessionSettings, Settings
from overpaint.apps.wiring import sessions
from overpaint.core.errors import ModelLoadError
from overpaint.core.imaging.images import Picture
from overpaint.sessions.judges.judging import JudgedEdit, JudgeUnavailable
from overpaint.sessions.judges.vision import VisionJudge
from tests.conftest import picture
from tests.servers import listening

KEY = "a-secret-key"


class Model(ThreadingHTTPServer):
    """Answers chat completions with what `says` holds: a text, or a status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.says: str | int = '{"followed": 9, "kept": 7, "reason": "the cat is red"}'
        self.asked: list[tuple] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, self.headers["authorization"], body))
        says = self.server.says
        message = {"role": "assistant", "content": says}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "eye"}
        sent = json.dumps({**answer, "choices": [choice]}).encode()
        self.send_response(says if isinstance(says, int) else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def model():
    server = Model()
    with listening(server):
        yield server


def asked(instruction="make the cat red") -> JudgedEdit:
    return JudgedEdit(before=Picture(picture(1000, 500)), instruction=instruction)


def judged(model, count=1, **more):
    judge = VisionJudge(model.url, "eye", KEY, **more)
    after = [Picture(picture(1000, 500, seed)) for seed in range(count)]
    return judge.judge(asked(), after)


class TestVisionJudge:
    def test_the_lower_grade_counts(self, model):
        [found] = judged(model)
        assert (found.judge, found.score, found.reason) == ("eye", 0.7, "the cat is red")

    def test_it_is_shown_both_pictures_and_the_words(self, model):
        judged(model, 2)
        assert len(model.asked) == 2
        path, key, body = model.asked[0]
        assert (path, key) == ("/v1/chat/completions", f"Bearer {KEY}")
        system, user = body["messages"]
        assert "JSON" in system["content"]
        words, *pictures = user["content"]
        assert words["text"] == "Asked for: make the cat red"
        for each in pictures:
            _, _, encoded = each["image_url"]["url"].partition("base64,")
            assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (768, 384)

    def test_talk_around_the_grades_is_no_harm(self, model):
        model.says = 'Well:\n```json\n{"followed": 10, "kept": 10}\n```'
        assert judged(model)[0].score == 1

    @pytest.mark.parametrize(
        "says",
        ["no", "", "{}", '{"followed": 11, "kept": 1}', '{"followed": NaN, "kept": 1}', 500, 401],
    )
    def test_anything_else_is_no_judgement(self, model, says):
        model.says = says
        with pytest.raises(JudgeUnavailable) as failed:
            judged(model)
        assert KEY not in str(failed.value)

    def test_nobody_there(self):
        judge = VisionJudge("http://127.0.0.1:1/v1", "eye", timeout_s=1)
        with pytest.raises(JudgeUnavailable):
            judge.judge(asked(), [Picture(picture(8, 8))])

    def test_from_the_settings(self, model):
        settings = Settings(judge=JudgeSettings(base_url=model.url, model="eye"))
        [found] = sessions.examiner(settings).judge.judge(asked(), [Picture(picture(8, 8))])
        assert found.score == 0.7
        assert sessions.examiner(Settings()).judge.name == "pixels"
        with pytest.raises(ValueError, match="base_url needs a model"):
            JudgeSettings(base_url=model.url)


def clip(folder) -> None:
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = {**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    text = {**small, "num_attention_heads": 2, "vocab_size": 20}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)


def dino(folder) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    Dinov2Model(config).save_pretrained(folder)


class TestSimilarity:
    @pytest.mark.parametrize("make", [clip, dino])
    def test_the_same_picture_is_1(self, tmp_path, make):
        folder = tmp_path / "model"
        make(folder)
        told = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(told))
        settings = Settings(sessions=SessionSettings(similarity_model=folder))
        similarity = sessions.examiner(settings).similarity
        first, second = picture(64, 64), picture(40, 70, seed=3)
        assert similarity.between(first, first) == pytest.approx(1, abs=1e-5)
        assert similarity.between(first, second) < 0.9999
        assert similarity.name == "model"

    def test_a_folder_without_a_model(self, tmp_path):
        with pytest.raises(ModelLoadError, match="no CLIP or DINO"):
            sessions.examiner(Settings(sessions=SessionSettings(similarity_model=tmp_path)))

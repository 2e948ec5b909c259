"""A chat model that rewrites prompts: in the recipe, remembered, and under the safety policy."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cache

import numpy as np
import pytest

import overpaint
from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import families
from overpaint.core.errors import InvalidSettings, RewriterUnavailable
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.rewriting import SHORT
from tests.apps.server.conftest import edit as native_body
from tests.apps.server.conftest import serving
from tests.conftest import box_mask, picture
from tests.datasets import vision_server
from tests.datasets.vision_server import Fault, Text
from tests.safety.test_interfaces import serve_all
from tests.safety.ways import FEW, WAYS, Desk

pytest.importorskip("openai")

WISH = "a cat"
PROMPT = "a small red cat that sits in the grass"
SAFE = 'mode = "off"'
BLOCK = 'blocklist = "words.toml"'
NAMES = {
    *("run", "batcher", "session", "block kontext_edit", "overpaint edit", "overpaint batch"),
    *("/v1/edits", "/v1/images/edits", "/v2/models", "/score"),
}
"""Of `WAYS`, one of each kind."""


@pytest.fixture
def chat(settings_file):
    """A chat model that the settings name; `chat.write(*safety)` writes them."""
    with vision_server.serving(lambda _, words: Text(f'"{PROMPT}"')) as server:

        def write(*safety, seconds=60):
            where = [f'base_url = "{server.url}"', 'model = "writer"']
            rewriter = [*where, f"timeout_s = {seconds}"]
            settings_file(*safety, "[rewriter]", *rewriter)

        server.write = write
        write(SAFE)
        yield server


def edited(engine, prompt=WISH, **more):
    asked = {"mask": box_mask(64, 64), "seed": 3, **FEW, **more}
    return engine.edit(picture(64, 64), prompt, **asked)


def test_the_family_is_given_what_the_chat_model_writes(chat, make_engine):
    result = edited(overpaint.load())
    assert result.recipe["prompt"] == PROMPT
    assert result.recipe["rewriting"] == {"by": "writer", "wish": WISH}
    assert result.timings["rewrite"] > 0
    plain = edited(make_engine("sd2"), PROMPT)
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(plain.images[0]))
    assert "rewriting" not in plain.recipe
    (words,) = chat.asked
    assert WISH in words
    assert families.find("sd2").prompt_style in words


def test_a_wish_is_rewritten_once_for_all_its_edits(chat):
    engine = overpaint.load()
    for seed in range(3):
        edited(engine, seed=seed)
    assert len(chat.asked) == 1


@pytest.mark.parametrize("prompt", [" ", "word " * (SHORT + 1)])
def test_a_long_prompt_stays_as_it_is(chat, prompt):
    assert overpaint.load().rewriter.prompt(prompt, "my-sd2") == prompt
    assert chat.asked == []


@pytest.mark.parametrize("fault", ["timeout", "refusal", "500", "long"])
def test_without_an_answer_nothing_is_painted(chat, computed, fault):
    def answer(_picture, _words):
        if fault == "long":
            return Text("word " * 1000)
        raise Fault(fault)

    chat.write(SAFE, seconds=1)
    chat.answer = answer
    with pytest.raises(RewriterUnavailable, match=r"writer.*rewriter\.base_url"):
        edited(overpaint.load())
    assert computed == []


def test_the_server_says_that_it_may_pass(chat):
    def answer(_picture, _words):
        raise Fault("500")

    chat.answer = answer
    with serving(serve_all()) as server:
        told = server.client.post("/v1/edits", json=native_body(model="my-sd2", prompt=WISH))
        assert (told.status_code, told.json()["error"]["code"]) == (503, "rewriter_unavailable")


def test_the_batcher_rewrites_beside_its_threads(chat):
    running = Batcher(overpaint.load())
    try:
        tickets = [
            running.submit(each)
            for each in [overpaint.EditRequest(**_parts(seed)) for seed in (1, 2)]
        ]
        assert {each.result(60).recipe["prompt"] for each in tickets} == {PROMPT}
    finally:
        running.close()


def _parts(seed):
    image = overpaint.Picture.from_pil(picture(64, 64))
    mask = box_mask(64, 64)
    return {"image": image, "prompt": WISH, "mask": mask, "seed": seed, "options": FEW}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    picture(64, 64).save(tmp_path / "photo.png")
    box_mask(64, 64).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "data"))
    with ExitStack() as running:
        yield Desk(tmp_path, cache(lambda: running.enter_context(serving(serve_all()))))


@pytest.mark.parametrize(
    "way", [each for each in WAYS if each.name in NAMES], ids=lambda each: each.name
)
def test_what_it_writes_is_under_the_safety_policy(chat, computed, desk, way):
    words = (desk.folder / "words.toml").read_text()
    (desk.folder / "words.toml").write_text(words.replace("forbidden", "grass"))
    chat.write(BLOCK)
    way.check(way.ask(desk))
    assert computed == []
    assert chat.asked


def test_a_wish_that_is_refused_is_not_sent(chat, desk):
    chat.write(BLOCK)
    assert desk.command("inpaint", "photo.png", "forbidden", "-m", "mask.png").exit_code == 2
    assert chat.asked == []


def test_a_replay_has_the_prompt_as_it_was_written(chat, desk, settings_file):
    chat.write(SAFE, "[provenance]", "recipe = true", "prompt = true")
    few = ("-O", "num_inference_steps=2")
    made = desk.command("inpaint", "photo.png", WISH, "-m", "mask.png", "-o", "out.png", *few)
    assert made.exit_code == 0, made.stderr
    chat.asked.clear()
    files = ("--image", "photo.png", "--mask", "mask.png")
    again = desk.command("replay", "out.png", *files, "-o", "again.png", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["same"] is True
    assert chat.asked == []


def test_marks_without_prompts_have_no_wish_either(chat, desk):
    chat.write(SAFE, "[provenance]", "recipe = true")
    few = ("-O", "num_inference_steps=2")
    desk.command("inpaint", "photo.png", WISH, "-m", "mask.png", "-o", "out.png", *few)
    content = (desk.folder / "out.png").read_bytes()
    assert b"my-sd2" in content
    assert WISH.encode() not in content
    assert b"rewriting" not in content


def test_an_address_needs_a_model(settings_file):
    settings_file(SAFE, "[rewriter]", 'base_url = "http://127.0.0.1:1/v1"')
    with pytest.raises(InvalidSettings, match="base_url needs a model"):
        settings_.load()


def test_every_family_that_reads_words_says_how_it_likes_them():
    told = {each.name: each.prompt_style is not None for each in families.importable()}
    assert told.pop("erase") is False
    assert all(told.values()), told

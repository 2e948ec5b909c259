from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from overpaint.core.errors import InvalidRequest
from overpaint.datasets.output.card import Facts, UsedModel
from overpaint.datasets.recipes.recipe import Collect
from overpaint.datasets.vision.client import VisionModel
from tests.datasets.conftest import Painter
from tests.datasets.test_collect import run
from tests.datasets.vision_server import Text, serving

BLANK = {"sources": [{"blank": {"width": 48, "height": 48}, "licence": "CC0-1.0"}]}
KOREAN = {"prompt": "{색} 원", "axes": {"색": ["빨간", "파란"]}, **BLANK}
ENGLISH = {"빨간 원": "a red disc", "파란 원": "a blue disc"}


def test_korean_axes_work_as_written(make_recipe: Callable[..., Collect], tmp_path: Path) -> None:
    painter = Painter()

    def answer(_: object, words: str) -> Text:
        return Text(f"<think>hm</think>{ENGLISH[words.splitlines()[-1]]}")

    with serving(answer) as server:
        where = {"base_url": server.url, "model": "m"}
        recipe = make_recipe("collect", **KOREAN, quota=2, rewrite="english", vision=where)
        outcome, _ = run(recipe, tmp_path / "out", painter, vision=VisionModel(recipe.vision))
    assert {request.prompt for request in painter.requests} == set(ENGLISH.values())
    assert {row.entry.extra["cell"]["색"] for row in outcome.members} == {"빨간", "파란"}
    with pytest.raises(InvalidRequest, match="rewrite needs a chat server"):
        make_recipe("collect", **KOREAN, rewrite="english")


def test_a_note_says_what_the_model_reads(make_recipe: Callable[..., Collect]) -> None:
    facts = Facts(
        recipe=make_recipe("collect", **KOREAN),
        models=(
            UsedModel(
                name="m", revision="r", licence="mit", commercial=True, reads_english_only=True
            ),
        ),
    )
    (note,) = facts.assumptions()
    assert "m reads English" in note
    assert facts.licence == "CC0-1.0"

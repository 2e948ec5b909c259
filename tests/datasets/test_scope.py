from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overpaint.datasets.recipes.recipe import Clean
from overpaint.datasets.scope import scope

SOURCES = {"sources": [{"folder": "pictures"}]}


@pytest.mark.parametrize(
    ("prompt", "is_global"),
    [
        ("make the picture brighter", True),
        ("Turn it into a watercolour", True),
        ("사진을 밝게 해줘", True),
        ("Mach das Bild heller", True),
        ("change the season to winter", True),
        ("black and white", True),
        ("put a hat on the man", False),
        ("remove the red star", False),
        ("a train at the platform", False),
    ],
)
def test_words_say_whether_all_is_meant(
    make_recipe: Callable[..., Clean], prompt: str, is_global: bool
) -> None:
    found = scope(make_recipe("clean", **SOURCES, edit={"prompt": prompt}))
    assert found.changed == (0.0005, 1.0 if is_global else 0.9)
    assert ("whole picture" in found.note()) is is_global


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"edit": {"prompt": "brighter", "mask": {"box": [0, 0, 0.5, 1]}}}, 0.9),
        ({"edit": {"prompt": "a cat", "mask": {"everywhere": True}}}, 1.0),
        ({"edit": {"prompt": "brighter"}, "gate": {"changed": [0.1, 0.5]}}, 0.5),
    ],
)
def test_masks_and_the_recipe_say_more(
    make_recipe: Callable[..., Clean], keys: dict[str, Any], most: float
) -> None:
    assert scope(make_recipe("clean", **SOURCES, **keys)).changed[1] == most

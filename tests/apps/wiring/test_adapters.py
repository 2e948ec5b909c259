"""Adapters of a folder, by the names of models."""

from __future__ import annotations

import pytest

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import adapters, catalogue
from overpaint.core.errors import ModelNotFound


@pytest.fixture
def settings(tmp_path) -> Settings:
    for name in ("sketch.safetensors", "v1@2.safetensors", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    return Settings(adapters=tmp_path)


def test_they_are_added_to_a_model_by_name(settings):
    assert list(adapters.files(settings)) == ["sketch", "v1@2"]
    spec = catalogue.find_model("sdxl+sketch@0.82+v1@2@-1+v1@2", settings)
    assert spec.name == "sdxl+sketch@0.8+v1@2@-1+v1@2@1"
    assert [(each.path.stem, each.scale) for each in spec.loras] == [
        ("sketch", 0.8),
        ("v1@2", -1.0),
        ("v1@2", 1.0),
    ]
    assert catalogue.find_model("sdxl", settings).loras == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sdxl+nothing", "no adapter 'nothing'; there are sketch, v1@2"),
        ("sdxl+sketch@3", "'3' is not the scale"),
        ("sdxl+sketch@nan", "'nan' is not the scale"),
        ("sdxl+../sketch", "no adapter '../sketch'"),
    ],
)
def test_what_is_not_there_is_named(settings, name, words):
    with pytest.raises(ModelNotFound, match="adapter") as refused:
        catalogue.find_model(name, settings)
    assert words in str(refused.value)


def test_without_a_folder_there_are_none():
    assert adapters.files(Settings()) == {}
    with pytest.raises(ModelNotFound, match="there are none"):
        catalogue.find_model("sdxl+sketch", Settings())

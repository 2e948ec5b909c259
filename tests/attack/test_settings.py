"""Settings that look like a safety checker and are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from overpaint.apps import settings
from overpaint.apps.settings import ServerSettings
from overpaint.core.errors import InvalidSettings

VARIABLES = {
    "CONTENT_SAFETY_KEY": "secret-key",
    "CONTENT_SAFETY_THRESHOLD": "4",
    "UAI_CLIENT_ID": "an-identity",
}


def load(tmp_path, toml="", **environ):
    file = tmp_path / "overpaint.toml"
    file.write_text(toml)
    return settings.load({"OVERPAINT_CONFIG": str(file), **environ})


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_without_an_endpoint_is_an_error_that_names_it(tmp_path, name):
    with pytest.raises(InvalidSettings, match="CONTENT_SAFETY_ENDPOINT") as caught:
        load(tmp_path, **{name: VARIABLES[name]})
    assert caught.value.field == name
    assert VARIABLES[name] not in caught.value.message


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize(
    "toml",
    ["[safety]\nmode = 'off'\n", "[safety.azure]\nendpoint = 'https://x.example.org'\n"],
)
def test_it_is_none_where_it_counts_or_checking_is_off(tmp_path, name, toml):
    load(tmp_path, toml, **{name: VARIABLES[name]})


def test_the_threshold_is_that_of_every_checker(tmp_path):
    chosen = load(tmp_path, "[safety]\nblocklist = 'words.toml'\n", CONTENT_SAFETY_THRESHOLD="4")
    assert chosen.safety.threshold == 4
    with pytest.raises(InvalidSettings):
        load(tmp_path, "[safety]\nblocklist = 'words.toml'\n", CONTENT_SAFETY_KEY="secret-key")


def test_the_docs_have_a_row_for_every_limit_with_its_default():
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    section = text.split("## Limits\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    stated = {}
    for names, defaults, *_ in rows:
        named = re.findall(r"`(\w+)`", names)
        numbers = re.findall(r"\d[\d.]*", defaults) or [None]
        stated |= dict(zip(named, numbers, strict=False))
    fields = {
        name: field.default
        for name, field in ServerSettings.model_fields.items()
        if field.annotation in (int, float, int | None, float | None)
    }
    assert stated.keys() == fields.keys()
    for name, default in fields.items():
        assert default is None or float(stated[name]) == default, name

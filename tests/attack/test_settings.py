"""Settings that look like a safety checker and are none."""

from __future__ import annotations

import pytest

from overpaint.apps import settings
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

"""Settings: where they come from, which win, and what a typo says."""

from __future__ import annotations

from pathlib import Path

import pytest

from overpaint.apps import settings
from overpaint.core.errors import InvalidSettings
from overpaint.core.models import Lora


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_defaults_need_no_file(here):
    assert settings.load({}) == settings.Settings()


def test_the_first_file_found_counts(here, tmp_path):
    named, local, user = tmp_path / "named.toml", here / "overpaint.toml", tmp_path / "overpaint"
    user.mkdir()
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    (user / "overpaint.toml").write_text('dtype = "float16"', encoding="utf-8")
    assert settings.load(environ).dtype == "float16"
    local.write_text('dtype = "bfloat16"', encoding="utf-8")
    assert settings.load(environ).dtype == "bfloat16"
    named.write_text('dtype = "float32"', encoding="utf-8")
    assert settings.load(environ | {"OVERPAINT_CONFIG": str(named)}).dtype == "float32"


def test_the_environment_wins_over_the_file(here):
    (here / "overpaint.toml").write_text('device = "cuda"\ncache = "file"', encoding="utf-8")
    loaded = settings.load({"OVERPAINT_DEVICE": "cpu", "OVERPAINT_DEBUG": "1"})
    assert loaded.device == "cpu"
    assert loaded.debug is True
    assert loaded.cache == here / "file"


def test_empty_variables_are_as_good_as_none(here):
    assert settings.load({"OVERPAINT_DEVICE": "", "OVERPAINT_CONFIG": ""}) == settings.Settings()


def test_models_of_ones_own(here):
    (here / "overpaint.toml").write_text(
        """
        [models.mine]
        family = "sd2"
        folder = "checkpoints/mine"
        licence = "MIT"
        loras = [{ path = "style.safetensors", scale = 0.5 }, { path = "/abs.safetensors" }]

        [models.theirs]
        family = "kontext"
        hub = "owner/name"
        revision = "v1"
        commercial = false
        """,
        encoding="utf-8",
    )
    mine, theirs = settings.load({}).own_models()
    assert (mine.name, mine.family, mine.source) == ("mine", "sd2", "folder")
    assert mine.location == str(here / "checkpoints" / "mine")
    assert mine.loras == (
        Lora(here / "style.safetensors", 0.5),
        Lora(Path("/abs.safetensors"), 1.0),
    )
    assert (theirs.source, theirs.location, theirs.revision) == ("hub", "owner/name", "v1")
    assert not theirs.commercial


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('devise = "cpu"', "devise is not a setting (did you mean device?); known are adapters, "),
        ("[defaults]\npaint = 'sd2'", "defaults.paint is not a setting"),
        ("[models.a]\nfamly = 'sd2'\nfolder = 'x'", "models.a.famly is not a setting (did you"),
        ("[models.a]\nfolder = 'x'", "models.a.family is missing"),
        ("[models.a]\nfamily = 'sd2'", "models.a: give either folder or hub"),
        ("[models.a]\nfamily='sd2'\nfolder='x'\nhub='a/b'", "models.a: give either folder or hub"),
        ("[models.a]\nfamily='sd2'\nfolder='x'\nrevision='v'", "revision needs hub"),
        ("[models.a]\nfamily='sd2'\nhub='x'", "models.a.hub: 'x': must be OWNER/NAME"),
        (
            "[models.a]\nfamily='sd2'\nfolder='x'\nloras=[{path='p', scle=1}]",
            "models.a.loras.0.scle is not a setting (did you mean scale?); known are path, scale",
        ),
        (
            "[models.a]\nfamily='sd2'\nfolder='x'\nloras=[{path='p', scale=nan}]",
            "models.a.loras.0.scale: nan: give a finite number",
        ),
        ('dtype = "int4"', "dtype: 'int4': give 'auto', 'float32'"),
        (
            'device = "cuda:"',
            "device: 'cuda:': must be auto, all, cpu, mps, xpu, cuda, cuda:NUMBER",
        ),
        ('device = "cuda:0;cuda:1"', "several of those with commas between them"),
        ("dtype = ", "cannot be read as TOML"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_is_known(here, text, said):
    file = here / "overpaint.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSettings) as caught:
        settings.load({})
    assert caught.value.field == str(file)
    assert said in caught.value.message


def test_a_misspelt_variable_is_named(here):
    with pytest.raises(InvalidSettings, match=r"did you mean OVERPAINT_DEVICE\?"):
        settings.load({"OVERPAINT_DEVCE": "cpu"})


def test_a_wrong_value_in_a_variable_names_the_variable(here):
    with pytest.raises(InvalidSettings) as caught:
        settings.load({"OVERPAINT_DTYPE": "int4"})
    assert caught.value.field == "OVERPAINT_DTYPE"


def test_a_named_file_that_is_not_there(here):
    with pytest.raises(InvalidSettings, match="OVERPAINT_CONFIG"):
        settings.load({"OVERPAINT_CONFIG": "nowhere.toml"})


def test_no_variable_of_the_process_is_changed(here, monkeypatch):
    monkeypatch.setenv("OVERPAINT_DEVICE", "cpu")
    assert settings.load().device == "cpu"


def test_two_names_cannot_share_a_key(here):
    key = "k" * 20
    with pytest.raises(InvalidSettings, match="a, c share a key"):
        settings.load({"OVERPAINT_API_KEYS": f"a:{key},b:{'l' * 20},c:{key}"}).server.all_keys()


def test_a_file_of_keys_that_is_not_there_is_named_once(here):
    (here / "overpaint.toml").write_text('[server]\nkeys_file = "keys"', encoding="utf-8")
    with pytest.raises(InvalidSettings) as caught:
        settings.load({}).server.all_keys()
    assert caught.value.message == f"{here / 'keys'} cannot be read: No such file or directory"

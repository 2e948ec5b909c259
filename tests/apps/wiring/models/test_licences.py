"""A licence that must be accepted stops every way to its model, until somebody accepts it."""

from __future__ import annotations

import json
import logging

import pytest

import overpaint
from overpaint.apps.server.service import EditService
from overpaint.apps.settings import ModelSettings, ServerSettings, Settings
from overpaint.apps.wiring.models import build, catalogue, checkpoints, licences, segmentation
from overpaint.core import licences as known
from overpaint.core.errors import InvalidSettings, LicenceNotAccepted, ModelNotFound
from overpaint.core.models import BUILTIN, ModelSpec

FLUX = known.FLUX_DEV.name
REPOSITORY = "black-forest-labs/FLUX.1-Kontext-dev"


@pytest.fixture
def mine(checkpoint_folder):
    """Settings with a model of one's own under a licence that must be accepted."""
    return Settings(
        device="cpu",
        dtype="float32",
        models={
            "mine": ModelSettings(
                family="kontext", folder=checkpoint_folder("kontext"), licence=FLUX
            )
        },
        server=ServerSettings(models=("mine",)),
    )


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "config"))
    return tmp_path / "config" / "overpaint"


def accept(settings, name="mine", who="Jo"):
    spec = catalogue.find_model(name, settings)
    return licences.accept(spec, known.find(spec), who, settings)


class TestRefusal:
    @pytest.mark.parametrize(
        "way",
        [
            lambda settings: build.engine("mine", settings=settings),
            lambda settings: build.engine("mine", settings=settings, lazy=True).model(),
            lambda settings: checkpoints.locate(catalogue.find_model("mine", settings), settings),
            EditService,
        ],
        ids=["load", "first use", "locate", "serve"],
    )
    def test_until_accepted(self, mine, way):
        with pytest.raises(LicenceNotAccepted, match="overpaint licence accept mine"):
            way(mine)
        accept(mine)
        way(mine)

    def test_it_comes_before_the_advice_to_pull(self):
        with pytest.raises(LicenceNotAccepted):
            build.engine("kontext", settings=Settings())
        accept(Settings(), "kontext")
        with pytest.raises(ModelNotFound, match="overpaint pull kontext"):
            build.engine("kontext", settings=Settings())

    def test_segmenters_too(self):
        with pytest.raises(LicenceNotAccepted, match="SAM License"):
            segmentation.load("sam3", Settings())

    @pytest.mark.parametrize("repository", [REPOSITORY, REPOSITORY.lower()])
    def test_another_name_for_the_same_repository(self, repository):
        settings = Settings(models={"other": ModelSettings(family="kontext", hub=repository)})
        with pytest.raises(LicenceNotAccepted):
            build.engine("other", settings=settings)

    def test_the_library(self, mine, monkeypatch):
        monkeypatch.setattr(build.settings_, "load", lambda: mine)
        with pytest.raises(LicenceNotAccepted):
            overpaint.load("mine")


@pytest.mark.parametrize("licence", ["unknown", "Apache-2.0", "LicenseRef-Ours"])
def test_other_licences_are_not_gated(checkpoint_folder, licence):
    spec = ModelSpec(
        name="x",
        family="sd2",
        source="folder",
        location=str(checkpoint_folder("sd2")),
        licence=licence,
    )
    assert build.load_model(spec, Settings(device="cpu")).record["licence"] == licence


class TestAcceptance:
    def test_it_says_what_who_and_when(self, mine, user_folder):
        accept(mine)
        (noted,) = json.loads((user_folder / "accepted-licences.json").read_text())
        assert (noted["licence"], noted["version"], noted["who"]) == (FLUX, "1.1.1", "Jo")
        assert noted["text_sha256"] == known.FLUX_DEV.text_sha256
        assert noted["when"].endswith("+00:00")

    def test_it_is_for_every_model_under_that_licence(self, mine):
        accept(mine)
        with pytest.raises(ModelNotFound):
            build.engine("kontext", settings=Settings())

    def test_another_text_needs_another_one(self, mine, monkeypatch):
        accept(mine)
        newer = known.Licence(**{**vars(known.FLUX_DEV), "text_sha256": "0" * 64})
        monkeypatch.setitem(known.LICENCES, FLUX, newer)
        with pytest.raises(LicenceNotAccepted):
            build.engine("mine", settings=mine)

    def test_the_settings_say_where_it_is_kept(self, mine, tmp_path):
        elsewhere = mine.model_copy(update={"licences": tmp_path / "shared" / "accepted.json"})
        accept(elsewhere)
        build.engine("mine", settings=elsewhere)
        with pytest.raises(LicenceNotAccepted):
            build.engine("mine", settings=mine)

    @pytest.mark.parametrize("text", ["", "{}", '[{"licence": 3}]', "[" * 9999])
    def test_a_damaged_file_opens_nothing(self, mine, user_folder, text):
        user_folder.mkdir(parents=True)
        (user_folder / "accepted-licences.json").write_text(text)
        with pytest.raises(InvalidSettings, match="cannot be read"):
            build.engine("mine", settings=mine)

    def test_nobody_cannot_accept(self, mine):
        with pytest.raises(InvalidSettings, match="--who"):
            accept(mine, who=" ")


def test_serving_others_with_a_non_commercial_model_warns(mine, caplog):
    accept(mine)
    service = EditService(mine)
    with caplog.at_level(logging.WARNING):
        service.warn_of_licences()
    assert "non-commercial use only" in caplog.text


def test_every_model_here_has_a_licence_that_is_known():
    for spec in (*BUILTIN, *segmentation.SEGMENTERS.values()):
        assert known.find(spec) is not None, spec.name
        refused = spec.licence.startswith("FLUX")
        assert known.is_commercial(spec) is not refused
        assert known.find(spec).gated or not refused


class TestCommands:
    def test_show_accept_show(self, overpaint):
        before = overpaint("licence", "show", "kontext")
        assert b"not accepted" in before.out
        assert b"Non-commercial use of the model only" in before.out
        assert b"Black Forest Labs" in before.out
        refused = overpaint("pull", "kontext", "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "licence_not_accepted")
        assert overpaint("licence", "accept", "kontext", "--who", "Jo").code == 0
        assert overpaint("licence", "show", "kontext", "--json").json["accepted"]["who"] == "Jo"

    def test_nothing_to_accept(self, overpaint):
        assert "nothing to accept" in overpaint("licence", "accept", "sd2").err
        assert overpaint("licence", "accept", "erase", "--json").json["accepted"] is None

    def test_a_model_of_unknown_licence(self, overpaint, checkpoint_folder):
        ran = overpaint("licence", "show", checkpoint_folder("sd2"))
        assert b"commercial use: unknown" in ran.out

    def test_models_tell_it(self, overpaint):
        listed = {each["name"]: each for each in overpaint("models", "--json").json["models"]}
        assert listed["kontext"]["must_be_accepted"] is True
        assert listed["sd2"]["attribution"].startswith("Copyright")

"""models, pull, convert and doctor."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import pytest

import overpaint as overpaint_package
from overpaint import blocks
from tests import tiny_checkpoints
from tests.hub_server import COMMIT, Hub, serving


@pytest.fixture
def own_hub_model(desk, checkpoint_folder):
    """A model of one's own in a repository on a local hub."""
    (desk / "overpaint.toml").write_text(
        "cache = 'cache'\n[models.mine]\nfamily = 'sd2'\nhub = 'owner/model'\n", encoding="utf-8"
    )
    offered = Hub()
    offered.add(checkpoint_folder("sd2"))
    with serving(offered):
        yield offered


def test_models_are_listed(overpaint):
    ran = overpaint("models")
    assert ran.code == 0
    text = ran.out.decode()
    for word in ("erase", "kontext", "ostris/Flex.2-preview", "Non-Commercial", "26 GB", "ready"):
        assert word in text


def test_models_are_grouped_by_task_and_marked(overpaint, desk):
    (desk / "overpaint.toml").write_text(
        "cache = 'cache'\n[models.'[dev]']\nfamily = 'sd2'\nfolder = 'nowhere'\n"
        "licence = 'FLUX.1 [dev]'\n",
        encoding="utf-8",
    )
    lines = [line.split() for line in overpaint("models").out.decode().splitlines()]
    first = [line[0] if line else "" for line in lines]
    places = [first.index(each) for each in ("inpaint", "[dev]", "edit", "kontext", "segment")]
    assert places == sorted(places)
    # What is in brackets is no markup of the terminal's.
    assert any("[dev]" in line[1:] for line in lines)
    assert {line[1] for line in lines if line[0] == "*"} == {"tiny-flex2", "tiny-kontext", "erase"}


class TestRecommendation:
    def test_pull_without_a_name_recommends(self, overpaint, desk):
        (desk / "overpaint.toml").write_text("cache = 'cache'", encoding="utf-8")
        ran = overpaint("pull")
        assert ran.code == 0
        text = ran.out.decode()
        assert text.startswith("inpaint: ")
        assert "overpaint pull klein" in text
        assert "it needs no weights" in text

    def test_for_one_task_and_for_programs(self, overpaint, desk):
        (desk / "overpaint.toml").write_text("cache = 'cache'", encoding="utf-8")
        (only,) = overpaint("pull", "--task", "edit", "--json").json["recommendations"]
        assert (only["task"], only["state"]) == ("edit", "not pulled")
        assert only["reason"]

    def test_an_unknown_task(self, overpaint):
        ran = overpaint("pull", "--task", "paint")
        assert ran.code == 2
        assert "'paint' is not one of inpaint, edit, erase" in ran.err


def test_models_for_programs(overpaint, desk):
    (desk / "overpaint.toml").write_text("cache = 'cache'", encoding="utf-8")
    listed = {each["name"]: each for each in overpaint("models", "--json").json["models"]}
    assert listed["erase"]["state"] == "ready"
    assert listed["kontext"]["state"] == "not pulled"
    assert listed["kontext"]["commercial"] is False


def test_options_of_a_model(overpaint):
    text = overpaint("models", "flex2").out.decode()
    for word in (
        "control_strength",
        "number 0.0 to 2.0",
        "0.5",
        "auto, one or full",
        "integer 1 to",
    ):
        assert word in text
    schema = overpaint("models", "flex2", "--json").json["options"]
    assert schema["properties"]["control_stop"]["default"] == 0.33


def test_options_of_an_unknown_model(overpaint):
    ran = overpaint("models", "flax2")
    assert ran.code == 2
    assert "did you mean flex2?" in ran.err


def test_pull_then_edit_offline(overpaint, overpaint_process, own_hub_model):
    online = {"HF_ENDPOINT": own_hub_model.url, "HF_HUB_OFFLINE": "0"}
    pulled = overpaint_process("pull", "mine", "--json", env=online)
    assert pulled.code == 0, pulled.out
    assert pulled.json["commit"] == COMMIT
    assert overpaint("models", "mine", "--json").json["state"] == "ready"

    edited = overpaint(
        "inpaint", "photo.png", "a kite", "--mask", "mask.png", "--model", "mine", "--json",
        "--dtype", "float32", "-O", "num_inference_steps=1",
    )  # fmt: skip
    assert edited.code == 0, edited.out
    assert edited.json["recipe"]["model"]["revision"] == COMMIT


@pytest.fixture
def published_flex2(desk, tmp_path_factory):
    """Flex.2-preview as it is published, in small: its index, shards and files beside."""
    folder = tmp_path_factory.mktemp("published")
    transformer = tiny_checkpoints.tiny_transformer(196)
    tiny_checkpoints.flux(folder, "FluxPipeline", transformer)
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(folder / "transformer", max_shard_size="60KB")
    assert len(list((folder / "transformer").glob("*-of-*.safetensors"))) > 1
    shutil.rmtree(folder / "vocabulary")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "pipeline.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "Flex.2-preview.safetensors").write_bytes(b"a single file of all weights")
    (desk / "overpaint.toml").write_text("cache = 'cache'\ndtype = 'float32'\n", encoding="utf-8")
    offered = Hub(repository="ostris/Flex.2-preview")
    offered.add(folder)
    with serving(offered):
        yield offered


def test_pull_flex2_then_edit_without_naming_it(overpaint, overpaint_process, published_flex2):
    online = {"HF_ENDPOINT": published_flex2.url, "HF_HUB_OFFLINE": "0"}
    pulled = overpaint_process("pull", "flex2", "--json", env=online)
    assert pulled.code == 0, pulled.out
    assert not {"pipeline.py", "Flex.2-preview.safetensors"} & set(published_flex2.downloads())

    words = ("inpaint", "photo.png", "a kite", "--mask", "mask.png", "-O", "num_inference_steps=1")
    edited = overpaint(*words, "--json")
    assert edited.code == 0, edited.out
    model = edited.json["recipe"]["model"]
    assert (model["name"], model["revision"]) == ("flex2", COMMIT)
    assert not [each for each in edited.json["warnings"] if "toy" in each]
    painted = blocks.flex2_inpainting(
        "photo.png", "mask.png", "a kite", num_inference_steps=1, keep_input_size=True
    )
    assert painted.recipe["model"]["name"] == "flex2"


def test_pull_says_what_it_does(overpaint_process, own_hub_model):
    online = {"HF_ENDPOINT": own_hub_model.url, "HF_HUB_OFFLINE": "0"}
    ran = overpaint_process("pull", "mine", env=online)
    assert ran.code == 0
    assert "owner/model, licence: unknown" in ran.err
    assert f"at commit {COMMIT[:12]}, checked" in ran.err
    assert COMMIT in ran.out.decode()


def test_pull_from_a_gated_repository(overpaint_process, own_hub_model):
    own_hub_model.gated = True
    online = {"HF_ENDPOINT": own_hub_model.url, "HF_HUB_OFFLINE": "0"}
    ran = overpaint_process("pull", "mine", "--json", env=online)
    assert ran.code == 1
    assert ran.json["error"]["code"] == "licence_not_accepted"


def test_pull_of_what_needs_no_pulling(overpaint):
    assert "nothing to pull" in overpaint("pull", "erase").err
    assert overpaint("pull", "erase", "--json").json == {"name": "erase", "folder": None}


class TestConvert:
    @pytest.fixture
    def settings(self, desk):
        """A model of one's own, and a cache."""
        folder = desk / "mine"
        twin = Path(overpaint_package.__file__).parent / "twins" / "tiny-sd2"
        shutil.copytree(twin, folder)
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        (desk / "overpaint.toml").write_text(
            f"cache = 'cache'\ndtype = 'bfloat16'\n"
            f"[models.mine]\nfamily = 'sd2'\nfolder = '{folder.name}'\n",
            encoding="utf-8",
        )

    def edit(self, overpaint):
        ran = overpaint(
            "inpaint", "photo.png", "a red circle", "--mask", "mask.png", "--model", "mine",
            "--seed", "1", "-O", "num_inference_steps=2", "-o", "out.png", "--force",
        )  # fmt: skip
        assert ran.code == 0, ran.err
        return Path("out.png").read_bytes()

    def test_the_picture_stays(self, overpaint, settings, desk):
        before = self.edit(overpaint)
        ran = overpaint("convert", "mine", "--json")
        assert ran.code == 0, ran.err
        assert {each["component"] for each in ran.json["written"]} == {
            "unet",
            "vae",
            "text_encoder",
        }
        assert all(Path(each["folder"]).is_relative_to(desk) for each in ran.json["written"])
        assert self.edit(overpaint) == before
        again = overpaint("convert", "mine")
        assert again.code == 0
        assert "nothing to convert" in again.err

    def test_doctor_recommends_it(self, overpaint, settings):
        assert "overpaint convert mine" in " ".join(overpaint("doctor").out.decode().split())
        overpaint("convert", "mine")
        assert "overpaint convert" not in overpaint("doctor").out.decode()

    def test_a_model_without_weights(self, overpaint):
        assert "nothing to convert" in overpaint("convert", "erase").err

    def test_a_typo(self, overpaint):
        ran = overpaint("convert", "kontex")
        assert ran.code == 2
        assert "did you mean kontext" in ran.err

    def test_an_unknown_precision(self, overpaint, settings):
        ran = overpaint("convert", "mine", "--dtype", "float8")
        assert ran.code == 2
        assert "bfloat16" in ran.err


def test_doctor_finds_nothing_broken(overpaint, desk):
    ran = overpaint("doctor", "--json")
    assert ran.code == 0, ran.out
    findings = {each["what"]: each for each in ran.json["findings"]}
    assert ran.json["ok"] is True
    for what in ("python", "torch", "torchvision", "device", "memory", "cache", "model erase"):
        assert findings[what]["verdict"] in {"ok", "note"}


def test_doctor_finds_a_torchvision_that_does_not_fit(overpaint, monkeypatch, tmp_path):
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ran = overpaint("doctor")
    assert ran.code == 1
    text = ran.out.decode()
    assert "broken" in text
    assert "pip uninstall torchvision" in " ".join(text.split())


def test_doctor_reports_broken_settings(overpaint, desk):
    (desk / "overpaint.toml").write_text("devise = 'cpu'", encoding="utf-8")
    ran = overpaint("doctor")
    assert ran.code == 1
    assert "devise is not a setting" in " ".join(ran.out.decode().split())


def test_doctor_reports_damaged_and_missing_models(overpaint, desk):
    (desk / "overpaint.toml").write_text(
        "cache = 'cache'\n[models.gone]\nfamily = 'sd2'\nfolder = 'nowhere'\n"
        "[models.torn]\nfamily = 'sd2'\nhub = 'owner/torn'\n",
        encoding="utf-8",
    )
    record = desk / "cache" / "models--owner--torn" / "overpaint" / "main.json"
    record.parent.mkdir(parents=True)
    files = {"model_index.json": {"sha256": "0", "size": 1, "modified": 0}}
    record.write_text(
        json.dumps({"repository": "owner/torn", "commit": COMMIT, "files": files}),
        encoding="utf-8",
    )
    ran = overpaint("doctor", "--json")
    assert ran.code == 1
    findings = {each["what"]: each["text"] for each in ran.json["findings"]}
    assert findings["model gone"].startswith("missing")
    assert findings["model torn"].startswith("damaged")


def test_doctor_survives_a_library_that_cannot_be_imported(overpaint, monkeypatch):
    def fail(name):
        raise ImportError(f"no {name}")

    broken = types.SimpleNamespace(import_module=fail, util=sys.modules["importlib.util"])
    monkeypatch.setattr("overpaint.apps.cli.doctor.importlib", broken)
    ran = overpaint("doctor")
    assert ran.code == 1
    assert "cannot be imported" in ran.out.decode()


class TestDoctorOfSafety:
    def finding(self, overpaint, what):
        ran = overpaint("doctor", "--json")
        return {each["what"]: each for each in ran.json["findings"]}[what]

    def test_nothing_is_checked(self, overpaint, desk):
        assert self.finding(overpaint, "safety")["verdict"] == "note"
        assert "source type" in self.finding(overpaint, "provenance")["text"]

    def test_off_is_said(self, overpaint, desk):
        (desk / "overpaint.toml").write_text('[safety]\nmode = "off"\n', encoding="utf-8")
        assert self.finding(overpaint, "safety")["text"].startswith("off")

    def test_a_checker(self, overpaint, desk):
        (desk / "words.toml").write_text('[[lists]]\nwords = ["x"]\n', encoding="utf-8")
        (desk / "overpaint.toml").write_text('[safety]\nblocklist = "words.toml"\n')
        found = self.finding(overpaint, "safety")
        assert (found["verdict"], found["text"]) == (
            "ok",
            "block: blocklist; pictures are not checked",
        )

    def test_what_is_broken(self, overpaint, desk):
        (desk / "overpaint.toml").write_text(
            '[safety]\nblocklist = "none.toml"\n'
            '[provenance]\nkey = "none.pem"\ncertificate = "none.pem"\n',
            encoding="utf-8",
        )
        for what in ("safety", "provenance"):
            found = self.finding(overpaint, what)
            assert found["verdict"] == "broken"
            assert "cannot be read" in found["text"]

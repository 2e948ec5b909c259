"""From a name to a loaded model."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import overpaint
from overpaint.apps.settings import ModelSettings, Settings
from overpaint.apps.wiring.models import build, catalogue, families
from overpaint.checkpoints import placement
from overpaint.core.errors import (
    InvalidSettings,
    ModelLoadError,
    ModelNotFound,
    OutOfMemory,
    OverpaintError,
    UnsupportedOption,
)
from overpaint.core.models import Lora
from overpaint.families.erase import ERASE_FAMILY
from tests.conftest import box_mask, picture

pytestmark = pytest.mark.usefixtures("desk")


def own(folder: Path, family: str = "sd2", **more) -> Settings:
    return Settings(models={"mine": ModelSettings(family=family, folder=folder, **more)})


def test_families_are_found_by_name():
    assert set(families.names()) >= {"erase", "fill", "flex2", "kontext", "sd2", "sdxl"}
    assert "conditions" not in families.names()
    assert families.find("erase") is ERASE_FAMILY


def test_an_unknown_family_lists_the_known():
    with pytest.raises(InvalidSettings, match=r"'sd3' \(did you mean sd2\?\); known are erase,"):
        families.find("sd3")


@pytest.mark.parametrize("name", ["", "conditions", "../erase", "erase.x"])
def test_a_name_that_is_no_family(name):
    with pytest.raises(InvalidSettings):
        families.find(name)


def test_another_package_may_register_a_family(monkeypatch):
    point = metadata.EntryPoint(
        "theirs", "overpaint.families.erase:ERASE_FAMILY", families.ENTRY_POINTS
    )
    broken = metadata.EntryPoint("broken", "not_there:Family", families.ENTRY_POINTS)

    def entry_points(*, group, name=None):
        assert group == "overpaint.families"
        return [each for each in (point, broken) if name in (None, each.name)]

    monkeypatch.setattr(families, "entry_points", entry_points)
    assert families.find("theirs") is ERASE_FAMILY
    assert "theirs" in families.names()
    with pytest.raises(ModelLoadError, match="not_there"):
        families.find("broken")


def test_ones_own_models_win(tmp_path):
    settings = Settings(models={"sd2": ModelSettings(family="sd2", folder=tmp_path)})
    assert catalogue.models(settings)["sd2"].source == "folder"
    assert catalogue.models(Settings())["sd2"].source == "hub"


def test_twins_are_found_in_the_package(tmp_path, monkeypatch, checkpoint_folder):
    (tmp_path / "twins").mkdir()
    shutil.copytree(checkpoint_folder("sd2"), tmp_path / "twins" / "tiny-sd2")
    (tmp_path / "twins" / "__pycache__").mkdir()
    monkeypatch.setattr(catalogue, "files", lambda _: tmp_path)
    spec = catalogue.models(Settings())["tiny-sd2"]
    assert (spec.family, spec.source) == ("sd2", "bundled")
    assert spec.size_gb > 0
    assert catalogue.state(spec, Settings()) == "ready"


def test_an_unknown_model_tells_near_names():
    with pytest.raises(ModelNotFound, match=r"'flex' \(did you mean flex2\?\)"):
        catalogue.find_model("flex", Settings())
    with pytest.raises(ModelNotFound, match=r"did you mean tiny-sd2"):
        catalogue.find_model("tiny-sd3", Settings())


def test_a_twin_that_is_not_bundled_tells_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "files", lambda _: tmp_path)
    with pytest.raises(ModelNotFound, match=r"not bundled .* --model"):
        catalogue.find_model("tiny-flex2", Settings())


def test_a_folder_is_a_model(checkpoint_folder):
    spec = catalogue.find_model(str(checkpoint_folder("kontext")), Settings())
    assert (spec.family, spec.source) == ("kontext", "folder")


def test_truncated_weights_are_refused_when_a_folder_is_loaded(checkpoint_folder, tmp_path):
    folder = shutil.copytree(checkpoint_folder("sd2"), tmp_path / "torn")
    [file] = (folder / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match="ends too early"):
        overpaint.load(str(folder), dtype="float32")


def test_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(ModelNotFound, match="no such folder"):
        catalogue.find_model(str(tmp_path / "nowhere"), Settings())
    with pytest.raises(ModelNotFound, match=r"no model_index\.json in it"):
        catalogue.find_model(str(tmp_path), Settings())


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ('{"_class_name": "StableDiffusionXLPipeline"}', "this is a StableDiffusionXLPipeline"),
        ("{}", "names no pipeline class"),
        ("[", "names no pipeline class"),
    ],
)
def test_a_folder_that_no_family_reads(tmp_path, index, said):
    (tmp_path / "model_index.json").write_text(index, encoding="utf-8")
    with pytest.raises(ModelLoadError, match=said):
        catalogue.find_model(str(tmp_path), Settings())


def test_a_folder_that_is_not_what_its_family_says(checkpoint_folder):
    settings = own(checkpoint_folder("kontext"), family="sd2")
    with pytest.raises(ModelLoadError, match="is a FluxKontextPipeline, not a StableDiff"):
        build.engine("mine", device="cpu", settings=settings)


def test_a_model_that_was_not_pulled(tmp_path):
    settings = Settings(cache=tmp_path)
    with pytest.raises(ModelNotFound, match="run `overpaint pull sd2`"):
        build.engine("sd2", device="cpu", settings=settings)
    assert catalogue.state(catalogue.models(settings)["sd2"], settings) == "not pulled"


def test_the_model_says_what_it_is(checkpoint_folder):
    engine = build.engine(str(checkpoint_folder("sd2")), device="cpu", dtype="float32")
    record = engine.model().record
    assert record["family"] == "sd2"
    assert record["dtype"] == "float32"
    assert record["device"] == "cpu"
    assert len(record["revision"]) == 16
    assert record["loras"] == []


def test_device_and_dtype_of_the_settings_count(checkpoint_folder):
    settings = own(checkpoint_folder("sd2")).model_copy(update={"dtype": "float16"})
    assert build.engine("mine", settings=settings).model().record["dtype"] == "float16"
    engine = build.engine("mine", dtype="float32", settings=settings)
    assert engine.model().record["dtype"] == "float32"


def test_too_little_memory_is_told_before_anything_is_loaded(checkpoint_folder, monkeypatch):
    monkeypatch.setattr(placement, "free_memory", lambda _: 1000)
    with pytest.raises(OutOfMemory, match="mine needs about"):
        build.engine("mine", device="cpu", settings=own(checkpoint_folder("sd2")))


def test_adapters_change_the_picture_and_stand_in_the_recipe(checkpoint_folder, tmp_path):
    folder = str(checkpoint_folder("sd2"))
    lora = _sd2_lora(checkpoint_folder("sd2"), tmp_path / "style.safetensors")
    plain = build.engine(folder, device="cpu", dtype="float32")
    adapted = build.engine(folder, device="cpu", dtype="float32", loras=[Lora(lora, 2.0)])
    results = [
        engine.edit(picture(), "a kite", mask=box_mask(), seed=1, num_inference_steps=2)
        for engine in (plain, adapted)
    ]
    assert results[0].pictures[0].sha256 != results[1].pictures[0].sha256
    (record,) = results[1].recipe["model"]["loras"]
    assert (record["path"], record["scale"]) == (str(lora), 2.0)
    assert len(record["sha256"]) == 64


def test_a_model_without_weights_takes_no_adapters(tmp_path):
    with pytest.raises(UnsupportedOption, match="no weights to adapt"):
        build.engine("erase", loras=[Lora(tmp_path)])


def test_load_gives_an_engine(checkpoint_folder):
    engine = overpaint.load("erase")
    assert isinstance(engine, overpaint.Engine)
    with pytest.raises(overpaint.errors.ModelNotFound):
        overpaint.load("no-such-model")


def test_every_error_of_loading_is_ours(checkpoint_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint_folder("sd2"), folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["unet"] = ["os", "system"]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(OverpaintError, match="asks for class 'system'"):
        overpaint.load(str(folder))


def _sd2_lora(checkpoint: Path, file: Path) -> Path:
    """An adapter of the UNet's attention in PEFT's layout."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, module in unet.named_modules():
        if name.endswith(("to_q", "to_v")):
            out_features, in_features = module.weight.shape
            state[f"unet.{name}.lora_A.weight"] = torch.randn(4, in_features, generator=generator)
            state[f"unet.{name}.lora_B.weight"] = torch.randn(out_features, 4, generator=generator)
    save_file(state, file)
    return file


def test_flex2_as_it_is_published_is_a_folder_model(checkpoint_folder, tmp_path):
    """Its index names FluxPipeline, which FLUX.1's own checkpoints do as well."""
    folder = Path(shutil.copytree(checkpoint_folder("flex2"), tmp_path / "published"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    config = json.loads((folder / "transformer" / "config.json").read_text())
    if config["in_channels"] != 196:
        with pytest.raises(ModelLoadError, match="which no family reads"):
            catalogue.find_model(str(folder), Settings())
        (folder / "transformer" / "config.json").write_text(
            json.dumps(config | {"in_channels": 196})
        )
    assert catalogue.find_model(str(folder), Settings()).family == "flex2"

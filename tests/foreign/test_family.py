"""A family of another package: an entry point, networks of its own, nothing of it in src."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import overpaint
from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build, catalogue, families
from overpaint.checkpoints import loading, placement
from overpaint.checkpoints.files import layout
from overpaint.checkpoints.placement import TIERS, MemoryPlan, Placement
from overpaint.core import errors
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.engine import Engine
from tests import second_device
from tests.conftest import box_mask, open_checkpoint, picture
from tests.foreign import checkpoint

SITE = Path(__file__).parent / "site"
SIDE = 96
MASK = box_mask(SIDE, SIDE, (20, 30, 50, 70))


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    """The package and its metadata on Python's path, as pip leaves them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        yield


@pytest.fixture(scope="module")
def folder(installed, tmp_path_factory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("foreign") / "painter")


@pytest.fixture
def cards():
    with second_device.plugged_in() as present:
        yield present


@pytest.fixture
def engine_on(folder, cards):
    """device → engine in float32."""

    def engine(device: str = "cpu", **settings) -> Engine:
        return build.engine(
            str(folder), device=device, settings=Settings(dtype="float32", **settings)
        )

    return engine


def pixels(result) -> np.ndarray:
    return np.stack([np.asarray(image, int) for image in result.images])


def edit(engine: Engine, **more) -> np.ndarray:
    return pixels(engine.edit(picture(SIDE, SIDE), "a red cat", mask=MASK, seed=3, **more))


def request(index: int) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(SIDE, SIDE, seed=index)),
        prompt="a red cat",
        mask=MASK,
        seed=index,
        options={"num_inference_steps": 3 + index},
    )


def test_it_is_known_by_its_entry_point(folder):
    assert "mosaic" in families.names()
    assert families.find("mosaic").implementation == "mosaic_painter.family:Mosaic"
    assert catalogue.find_model(str(folder), Settings()).family == "mosaic"


def test_nothing_of_it_is_in_src():
    sources = Path(overpaint.__file__).parent.rglob("*.py")
    assert not [file for file in sources if "mosaic" in file.read_text(encoding="utf-8").lower()]


def test_an_edit_changes_what_the_mask_covers_and_a_seed_is_a_picture(engine_on):
    engine = engine_on()
    found, again = edit(engine), edit(engine)
    assert (found == again).all()
    before = np.asarray(picture(SIDE, SIDE), int)
    hidden = np.asarray(MASK) > 0
    assert (found[0][~hidden] == before[~hidden]).all()
    assert (found[0][hidden] != before[hidden]).any()
    assert (edit(engine, boldness=3.0) != found).any()
    assert (edit(engine, references=[picture(40, 60, seed=9)]) != found).any()


@pytest.mark.parametrize(
    "more", [{}, {"window": "full"}, {"num_images": 2}, {"references": [picture(40, 60, seed=9)]}]
)
def test_on_a_card_it_is_the_processors_picture(engine_on, more):
    assert abs(edit(engine_on("card"), **more) - edit(engine_on("cpu"), **more)).max() <= 1


@pytest.mark.parametrize("device", ["cpu", "card:1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_whole_on_its_device(cards, folder, device, dtype):
    loaded = open_checkpoint(folder, Placement(torch.device(device), dtype))
    for name in ("words", "painter", "tiles"):
        network = loaded.component(name)
        tensors = (*network.named_parameters(), *network.named_buffers())
        assert {str(each.device) for _, each in tensors} == {device}, name
    assert loaded.component("processor").template == "<{{ prompt }}>"


@pytest.mark.parametrize("device", ["cpu", "card"])
def test_the_batcher_and_its_previews(engine_on, device):
    expected = [pixels(engine_on(device).run([request(index)])[0]) for index in range(3)]
    updates = []
    batcher = Batcher(engine_on(device))
    try:
        tickets = [
            batcher.submit(request(index), previews=1, on_update=updates.append)
            for index in range(3)
        ]
        found = [pixels(ticket.result(60)) for ticket in tickets]
    finally:
        batcher.close()
    assert all(abs(a - b).max() <= 1 for a, b in zip(found, expected, strict=True))
    assert any(update.preview is not None for update in updates)


def test_its_memory_is_planned(folder, cards):
    settings = Settings(device="card", dtype="float32")
    spec = catalogue.find_model(str(folder), settings)
    plan = build.memory_plan(spec, settings)
    decoding = placement.DECODED * 3 * 4 * 4
    assert plan.tier == "all resident"
    assert plan.peak - plan.weights >= decoding
    checkpointed = open_checkpoint(folder, Placement(torch.device("card"), torch.float32))
    need = checkpointed.need()
    assert need.text == {"words"}
    assert plan.weights == sum(checkpointed.sizes().values()) == need.weights
    with cards[0].limited(cards[0].held + need.peak("text encoders out")):
        assert build.memory_plan(spec, settings).tier == "text encoders out"
    with cards[0].limited(cards[0].held + 100), pytest.raises(errors.OutOfMemory):
        build.memory_plan(spec, settings)


@pytest.mark.parametrize("tier", TIERS)
def test_in_every_tier_of_memory(engine_on, monkeypatch, tier):
    def chosen(name, need, free):
        return MemoryPlan(need.weights, need.peak(tier), free, tier)

    expected = edit(engine_on("cpu"))
    monkeypatch.setattr(placement, "preflight", chosen)
    engine = engine_on("card")
    assert abs(edit(engine) - expected).max() <= 1
    assert engine.model().checkpoint.take_turns == (tier != "all resident")
    tiled = TIERS.index(tier) >= TIERS.index("tiled decode")
    assert engine.model().checkpoint.component("tiles").tile == (512 if tiled else None)


def test_what_it_does_not_take_is_refused(engine_on):
    engine = engine_on()
    with pytest.raises(errors.InvalidRequest, match="control"):
        edit(engine, control=picture(SIDE, SIDE))
    with pytest.raises(errors.InvalidRequest, match="boldnes"):
        edit(engine, boldnes=2)
    with pytest.raises(errors.InvalidRequest, match="mask"):
        engine.edit(picture(SIDE, SIDE), "a red cat")


def test_classes_that_it_does_not_name_are_never_made(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    index = json.loads((copy / "model_index.json").read_text(encoding="utf-8"))
    index["painter"] = ["mosaic_painter", "PreTrainedModel"]
    (copy / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(errors.ModelLoadError, match="PreTrainedModel"):
        build.engine(str(copy), settings=Settings(dtype="float32"))


def test_a_pull_takes_the_files_of_its_processor(folder):
    spec = families.find("mosaic")
    offered = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    offered += ["processor/code.py", "painter/weights.bin"]
    chosen = layout.choose_files("me/mosaic", layout.read_index(folder), offered, spec.components)
    assert {"processor/chat_template.jinja", "processor/vocabulary.json"} <= set(chosen)
    assert not [name for name in chosen if name.endswith((".py", ".bin"))]


def test_its_library_is_asked_as_its_base_class_says(folder):
    from mosaic_painter.networks import MosaicPainter, MosaicWords

    assert loading.dtype_argument(MosaicWords, torch.float16) == {"dtype": torch.float16}
    assert loading.dtype_argument(MosaicPainter, torch.float16) == {"torch_dtype": torch.float16}


def test_from_the_command_line(folder, tmp_path):
    before, mask, after = (str(tmp_path / f"{name}.png") for name in ("before", "mask", "after"))
    picture(SIDE, SIDE).save(before)
    MASK.save(mask)
    words = ["inpaint", before, "a red cat", "--mask", mask, "--model", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "overpaint", *words, "-O", "boldness=2", "-o", after, "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(SITE)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    recipe = json.loads(done.stdout)["recipe"]
    assert recipe["model"]["family"] == "mosaic"
    assert recipe["options"]["boldness"] == 2
    with Image.open(after) as painted:
        assert painted.size == (SIDE, SIDE)

"""The outputs load with the readers that people use, and two writes give the same bytes."""

from __future__ import annotations

import gc
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import OutputError
from overpaint.datasets.outcome import Outcome
from overpaint.datasets.output import export, formats
from overpaint.datasets.output.card import Facts, UsedModel, card
from overpaint.datasets.output.export import Exporter
from overpaint.datasets.output.report import Reporter
from overpaint.datasets.recipes.recipe import Collect
from tests.datasets.conftest import Painter
from tests.datasets.test_collect import BASE, run

ALL = ("imagefolder", "webdataset", "coco", "parquet", "triples")
NASTY = "<script>alert(1)</script> ![x](http://evil) | {colour}"


@pytest.fixture
def made(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path
) -> tuple[Collect, Path, Outcome]:
    given: dict[str, Any] = {
        "name": "shapes",
        "about": NASTY,
        "prompt": f"a {NASTY} disc",
        "filters": {"changed": [0.01, 1]},
        "mask": {"box": [0, 0, 0.9, 0.9]},
        "output": {"formats": ALL, "shard": 4, "licence": "CC0-1.0"},
    }
    recipe = make_recipe("collect", **(BASE | given))
    outcome, _ = run(recipe, tmp_path / "out", Painter(lambda r: int(r.seed or 0) % 5 == 0))
    assert isinstance(outcome, Outcome)
    return recipe, tmp_path / "out", outcome


def write(made: tuple[Collect, Path, Outcome]) -> Path:
    recipe, out, outcome = made
    facts = Facts(
        recipe=recipe,
        models=(UsedModel(name="kontext", revision="abc", licence="FLUX NC", commercial=False),),
    )
    Exporter(folder=out, output=recipe.output, card=card(facts, outcome)).write(outcome)
    Reporter(folder=out, facts=facts).write(outcome)
    return out / "data"


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_written_twice_the_bytes_are_the_same(made: tuple[Collect, Path, Outcome]) -> None:
    first = fingerprints(write(made))
    assert fingerprints(write(made)) == first
    assert not list(made[1].glob(".data*"))


def test_hugging_face_reads_it(made: tuple[Collect, Path, Outcome], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = write(made)
    outcome = made[2]
    for loaded in (
        datasets.load_dataset(
            "imagefolder", data_dir=str(data / "imagefolder"), cache_dir=str(tmp_path / "a")
        ),
        datasets.load_dataset(
            "parquet",
            data_files=str(data / "parquet/train/*.parquet"),
            cache_dir=str(tmp_path / "b"),
        ),
    ):
        rows = loaded["train"]
        assert len(rows) == len(outcome.members)
        for row, kept in zip(rows, outcome.members, strict=True):
            assert row["id"] == kept.entry.id
            assert row["seed"] == kept.entry.seed
            assert row["prompt"] == kept.entry.prompt
            made_picture = Image.open(made[1] / str(kept.entry.picture))
            assert (np.asarray(row["image"]) == np.asarray(made_picture)).all()
            assert row["source"].size == row["mask"].size == row["image"].size
    triples = datasets.load_dataset(
        "imagefolder", data_dir=str(data / "triples"), cache_dir=str(tmp_path / "c")
    )["train"]
    assert {"img_id", "turn_index", "source_img", "mask_img", "target_img", "instruction"} <= set(
        triples.column_names
    )
    assert len(triples) == len(outcome.members)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_it(made: tuple[Collect, Path, Outcome]) -> None:
    webdataset = pytest.importorskip("webdataset")
    data = write(made)
    shards = sorted(map(str, (data / "webdataset").glob("*.tar")))
    assert len(shards) == 3
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["json"]["id"] for sample in samples] == [row.entry.id for row in made[2].members]
    assert samples[0]["png"].size == samples[0]["mask.png"].size == (48, 48)
    gc.collect()  # webdataset leaves its files open


def test_pandas_reads_it(made: tuple[Collect, Path, Outcome]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(write(made) / "parquet" / "train")
    assert list(table["id"]) == [row.entry.id for row in made[2].members]
    assert Image.open(io.BytesIO(table["image"][0]["bytes"])).size == (48, 48)
    assert table["axis_colour"].value_counts().to_dict() == {"red": 3, "green": 3, "blue": 3}


def test_pycocotools_reads_it(made: tuple[Collect, Path, Outcome]) -> None:
    coco_ = pytest.importorskip("pycocotools.coco")
    data = write(made)
    coco = coco_.COCO(str(data / "coco" / "annotations.json"))
    assert len(coco.getImgIds()) == 9
    assert {each["name"] for each in coco.loadCats(coco.getCatIds())} == {"red", "green", "blue"}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation)
        picture = coco.loadImgs(annotation["image_id"])[0]
        assert mask.shape == (picture["height"], picture["width"])
        assert int(mask.sum()) == annotation["area"]
        assert mask[0, 0] == 1
        assert mask[47, 47] == 0
        assert (data / "coco" / "images" / picture["file_name"]).is_file()


def test_run_lengths() -> None:
    mask = np.zeros((2, 3), bool)
    mask[1, 0] = mask[0, 1] = True
    assert formats.run_lengths(mask) == [1, 2, 3]
    assert formats.run_lengths(~mask) == [0, 1, 2, 3]
    assert formats.run_lengths(np.zeros((2, 2), bool)) == [4]


def test_what_was_left_out_is_told(made: tuple[Collect, Path, Outcome]) -> None:
    write(made)
    lines = (made[1] / "rejected.jsonl").read_text().splitlines()
    assert len(lines) == len(made[2].rejected) > 0
    for line in map(json.loads, lines):
        assert "changed, not" in line["reason"]
        assert (made[1] / line["picture"]).is_file()


def test_the_card_says_what_it_is(made: tuple[Collect, Path, Outcome]) -> None:
    told = (write(made) / "imagefolder" / "README.md").read_text()
    assert told.startswith('---\npretty_name: "shapes"\nlicense: other\n')
    assert "9 pictures, 9 of them (100%) made or edited by a generative model" in told
    assert "| colour=red | 3 | 3 |" in told
    assert "not for commercial use" in told
    assert "<script>" not in told
    assert "![x](" not in told


def test_the_report_escapes_what_others_wrote(made: tuple[Collect, Path, Outcome]) -> None:
    write(made)
    page = (made[1] / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert page.count("<script>") == 1
    assert page.count("data:image/jpeg;base64,") > 20


def test_an_earlier_data_set_stays_where_writing_fails(
    made: tuple[Collect, Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprints(write(made))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export.WRITERS, "coco", full)
    with pytest.raises(OutputError, match="No space left"):
        write(made)
    assert fingerprints(made[1] / "data") == before

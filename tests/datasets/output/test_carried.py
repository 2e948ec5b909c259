"""What a source knows of its pictures is in the cleaned set, whatever the source and the format."""

from __future__ import annotations

import gc
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from overpaint.datasets.output import carried
from overpaint.datasets.output.export import Exporter
from overpaint.datasets.recipes.recipe import Clean
from tests.datasets.conftest import Painter, noisy
from tests.datasets.test_clean import run

FORMATS = ("imagefolder", "webdataset", "parquet", "coco", "triples")
MIDDLE, CORNER = [14, 14, 20, 20], [0, 0, 8, 10]
OBJECTS = {"bbox": [MIDDLE, CORNER], "category": ["cone", "dog"], "id": [5, 6]}
ROWS: list[dict[str, Any]] = [
    {"id": "a-1", "caption": "a man", "label": 3, "tags": ["x", "y"]},
    {"id": "a-2", "caption": "한국", "label": 1, "tags": []},
]


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def left_half() -> Image.Image:
    mask = Image.new("L", (48, 48))
    mask.paste(255, (0, 0, 24, 48))
    return mask


def row(number: int) -> dict[str, Any]:
    return {**ROWS[number], **({"objects": OBJECTS} if number == 0 else {"objects": EMPTY})}


EMPTY: dict[str, list[Any]] = {"bbox": [], "category": [], "id": []}


def jsonl(folder: Path) -> dict[str, Any]:
    lines = [{**row(n), "image": f"{n}.png", "mask": "m.png"} for n in range(2)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"jsonl": "pictures/rows.jsonl"}


def imagefolder(folder: Path) -> dict[str, Any]:
    lines = [{**row(n), "file_name": f"{n}.png", "mask_file_name": "m.png"} for n in range(2)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"imagefolder": "pictures"}


def parquet(folder: Path) -> dict[str, Any]:
    (folder / "shards").mkdir()
    for number in range(2):
        image = {"bytes": png(noisy(number)), "path": f"{number}.png"}
        values = {**row(number), "image": image, "mask": {"bytes": png(left_half()), "path": "m"}}
        table = pa.Table.from_pylist([values])
        pq.write_table(table, folder / f"shards/{number:06d}.parquet")
    return {"parquet": "pictures/shards"}


def webdataset(folder: Path) -> dict[str, Any]:
    for number in range(2):
        with tarfile.open(folder / f"s-{number:06d}.tar", "w") as tar:
            members = {
                "png": png(noisy(number)),
                "mask.png": png(left_half()),
                "json": json.dumps(row(number)).encode(),
                "npy": b"vector",
            }
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {"webdataset": "pictures/s-{000000..000001}.tar"}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "jsonl": jsonl,
    "imagefolder": imagefolder,
    "parquet": parquet,
    "webdataset": webdataset,
}


def cleaned(
    make_recipe: Callable[..., Clean], source: dict[str, Any], tmp_path: Path, **keys: Any
) -> Path:
    """The data folder of a set whose middle was repainted, unless the keys say otherwise."""
    edit = {"edit": {"prompt": "remove", "mask": {"box": [0.25, 0.25, 0.75, 0.75]}}}
    recipe = make_recipe(
        "clean",
        sources=[source],
        **({**edit, "gate": {"new_issues": False}} | keys),
        output={"formats": FORMATS, "shard": 1},
    )
    outcome, _ = run(recipe, tmp_path / "out", Painter())
    assert not outcome.rejected, [each.reason for each in outcome.rejected]
    Exporter(folder=tmp_path / "out", output=recipe.output).write(outcome)
    return tmp_path / "out" / "data"


@pytest.fixture
def two(pictures: Path) -> Path:
    for number in range(2, 6):
        (pictures / f"{number}.png").unlink()
    left_half().save(pictures / "m.png")
    return pictures


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_in_every_format(
    make_recipe: Callable[..., Clean], two: Path, tmp_path: Path, kind: str
) -> None:
    data = cleaned(make_recipe, SOURCES[kind](two), tmp_path)
    for sample in tar_rows(data):
        assert sample["txt"].decode() == sample["caption"]
        assert sample["cls"] == str(sample["label"]).encode()
    for rows in all_rows(data, tmp_path):
        for said, expected in zip(rows, ROWS, strict=True):
            assert said["source_id"] == expected["id"]
            assert {name: said[name] for name in ("caption", "label", "tags")} == {
                name: expected[name] for name in ("caption", "label", "tags")
            }
        assert rows[0]["objects"]["bbox"] == [CORNER]  # the cone was repainted
        assert rows[0]["objects"]["category"] == ["dog"]
        assert rows[1]["objects"]["bbox"] == []
        kept = np.asarray(rows[0]["source_mask"].convert("L")) > 0
        expected_mask = np.asarray(left_half()) > 0
        expected_mask[12:36, 12:36] = False
        assert (kept == expected_mask).all()
    if kind == "webdataset":
        assert tar_rows(data)[0]["npy"] == b"vector"
    from pycocotools.coco import COCO

    coco = COCO(str(data / "coco/annotations.json"))
    (thing,) = coco.loadAnns(coco.getAnnIds())
    assert (thing["bbox"], thing["iscrowd"], thing["id"]) == (CORNER, 0, 6)
    assert coco.loadCats(thing["category_id"])[0]["name"] == "dog"
    assert coco.loadImgs(thing["image_id"])[0]["caption"] == "a man"
    edited = COCO(str(data / "coco/edited.json"))
    assert len(edited.getAnnIds()) == 2
    gc.collect()  # webdataset leaves its files open


def all_rows(data: Path, tmp_path: Path) -> list[list[Any]]:
    """The rows of each format, as its own reader gives them."""
    triples = folder_rows(data, tmp_path, "triples")
    for row in triples:
        row["source_mask"] = row.get("source_mask_img")
    return [folder_rows(data, tmp_path), parquet_rows(data, tmp_path), tar_rows(data), triples]


def folder_rows(data: Path, tmp_path: Path, name: str = "imagefolder") -> list[Any]:
    import datasets

    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(data / name), cache_dir=str(tmp_path / name)
    )
    return list(loaded["train"])


def parquet_rows(data: Path, tmp_path: Path) -> list[Any]:
    import datasets

    files = str(data / "parquet/train/*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "b"))
    return list(loaded["train"])


def tar_rows(data: Path) -> list[Any]:
    import webdataset

    shards = sorted(map(str, (data / "webdataset").glob("*.tar")))
    rows = []
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        row = json.loads(sample["json"]) | {
            name: sample.get(name) for name in ("npy", "txt", "cls")
        }
        if "source_mask.png" in sample:
            row["source_mask"] = Image.open(io.BytesIO(sample["source_mask.png"]))
        rows.append(row)
    return rows


def coco_source(folder: Path) -> dict[str, Any]:
    document = {
        "images": [
            {"id": 70, "file_name": "0.png", "width": 48, "height": 48, "coco_url": "http://x/0"},
            {"id": 80, "file_name": "1.png", "width": 48, "height": 48},
        ],
        "categories": [
            {"id": 3, "name": "cone", "supercategory": "street"},
            {"id": 9, "name": "dog"},
            {"id": 11, "name": "unseen"},
        ],
        "annotations": [
            {"id": 1, "image_id": 70, "category_id": 3, "bbox": MIDDLE, "area": 400, "iscrowd": 0},
            {"id": 4, "image_id": 70, "category_id": 9, "bbox": CORNER, "score": 0.5}
            | {"segmentation": [[0, 0, 8, 0, 8, 10, 0, 10]], "area": 80, "iscrowd": 0},
            {"id": 8, "image_id": 80, "category_id": 9, "bbox": CORNER, "area": 80, "iscrowd": 1},
        ],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return {"coco": "pictures/a.json"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_annotations_of_coco(make_recipe: Callable[..., Clean], two: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    data = cleaned(make_recipe, coco_source(two), tmp_path)
    coco = COCO(str(data / "coco/annotations.json"))
    assert [each["id"] for each in coco.loadAnns(coco.getAnnIds())] == [4, 8]
    assert [(each["id"], each["name"]) for each in coco.loadCats(coco.getCatIds())] == [
        (3, "cone"), (9, "dog"), (11, "unseen"),
    ]  # fmt: skip
    dog = coco.loadAnns([4])[0]
    assert (dog["score"], dog["category_id"]) == (0.5, 9)
    assert coco.annToMask(dog).sum() == 80
    assert coco.loadAnns([8])[0]["iscrowd"] == 1
    first = coco.loadImgs(coco.getImgIds())[0]
    assert (first["source_id"], first["coco_url"]) == (70, "http://x/0")
    for rows in all_rows(data, tmp_path):
        assert [each["objects"]["category"] for each in rows] == [["dog"], ["dog"]]
        assert [each["source_id"] for each in rows] == [70, 80]
        assert rows[0]["coco_url"] == "http://x/0"
    gc.collect()  # webdataset leaves its files open


def test_an_edit_of_all_leaves_the_annotations(
    make_recipe: Callable[..., Clean], two: Path, tmp_path: Path
) -> None:
    keys = {"edit": None, "exact": {"exposure": 0.6}}
    data = cleaned(make_recipe, coco_source(two), tmp_path, **keys)
    document = json.loads((data / "coco/annotations.json").read_text())
    assert [each["id"] for each in document["annotations"]] == [1, 4, 8]


def test_classes_of_folders(make_recipe: Callable[..., Clean], two: Path, tmp_path: Path) -> None:
    for name, number in (("cat", 0), ("dog", 1)):
        place = two / "train" / name
        place.mkdir(parents=True)
        (two / f"{number}.png").rename(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"words of a {name}")
    (two / "m.png").unlink()
    data = cleaned(make_recipe, {"imagefolder": "pictures"}, tmp_path)
    rows = folder_rows(data, tmp_path)
    assert [(each["label"], each["split"]) for each in rows] == [("cat", "train"), ("dog", "train")]
    assert [each["caption"] for each in rows] == ["words of a cat", "words of a dog"]


def test_mixed_columns_become_text() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": 1, "c": [1]}, {"a": "x", "b": 2.5}, {"c": ["y"]}]
    types = carried.uniform(rows)
    assert [row["a"] for row in rows] == ["1", "x", None]
    assert [row["b"] for row in rows] == [1, 2.5, None]
    assert [row["c"] for row in rows] == ["[1]", None, '["y"]']
    assert {name: str(kind) for name, kind in types.items()} == {
        "a": "string", "b": "double", "c": "string",
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "I;16"])
def test_a_mask_of_any_kind_loses_what_was_repainted(mode: str) -> None:
    mask = Image.new("RGB", (8, 6), "white").convert("I" if mode == "I;16" else mode)
    mask = mask.convert(mode)
    repainted = np.zeros((6, 8), bool)
    repainted[:, :4] = True
    after = Image.open(io.BytesIO(carried.without(png(mask), repainted)))
    before = np.asarray(Image.open(io.BytesIO(png(mask))))
    assert after.mode == Image.open(io.BytesIO(png(mask))).mode
    assert (np.asarray(after)[:, 4:] == before[:, 4:]).all()
    assert not np.asarray(after)[:, :4].any()
    assert carried.without(b"no picture", repainted) == b"no picture"

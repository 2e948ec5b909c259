from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from overpaint.core.errors import InvalidImage, InvalidRequest, OverpaintError
from overpaint.core.imaging import images
from overpaint.datasets import places
from overpaint.datasets.places import InFile, InParquet, InTar, Item
from overpaint.datasets.recipes.sections import SourceSection
from overpaint.datasets.sources.readers import items
from overpaint.jobs import inputs
from tests.datasets.conftest import noisy


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def half() -> Image.Image:
    mask = Image.new("L", (48, 48))
    mask.paste(255, (0, 0, 24, 48))
    return mask


def same(item: Item, number: int) -> bool:
    picture = images.decode(item.image.read())
    return bool((np.asarray(picture.rgb) == np.asarray(noisy(number))).all())


def is_half(item: Item) -> bool:
    mask = item.load_mask(images.decode(item.image.read()))
    return mask is not None and bool((np.asarray(mask) == np.asarray(half())).all())


def test_a_folder_and_its_masks(pictures: Path, tmp_path: Path) -> None:
    deeper = pictures / "deeper"
    deeper.mkdir()
    noisy(9).save(deeper / "a.webp", lossless=True)
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "1.txt").write_text("a man\n")
    masks = tmp_path / "masks"
    masks.mkdir()
    half().save(masks / "2.png")
    found = list(items([SourceSection(folder=pictures, masks=masks, licence="CC0-1.0")]))
    assert [item.name for item in found] == [
        "0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "deeper/a.webp",
    ]  # fmt: skip
    assert same(found[4], 4)
    assert is_half(found[2])
    assert found[3].mask is None
    assert [item.fields for item in found[:3]] == [{}, {"caption": "a man"}, {}]
    assert found[1].knowledge.columns == {"caption": "a man"}
    assert found[0].licence == "CC0-1.0"


def test_several_sources_and_a_limit(pictures: Path) -> None:
    found = list(
        items([SourceSection(folder=pictures, limit=2), SourceSection(folder=pictures, limit=1)])
    )
    assert [item.name for item in found] == ["0:0.png", "0:1.png", "1:0.png"]


def test_json_lines(pictures: Path) -> None:
    half().save(pictures / "m.png")
    lines = [
        {"image": "1.png", "mask": "m.png", "age": 70, "list": [1]},
        {"image": str(pictures / "2.png")},
    ]
    (pictures / "rows.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    found = list(items([SourceSection(jsonl=pictures / "rows.jsonl")]))
    assert [item.name for item in found] == ["rows.jsonl#1", "rows.jsonl#3"]
    assert same(found[0], 1)
    assert is_half(found[0])
    assert found[0].fields == {"age": "70"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": "../../secret.png"}', "outside"),
        ('{"image": "/etc/passwd"}', "outside"),
        ("[1]", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"picture": "1.png"}', "image_column"),
        ('{"image": "' + "x" * 1_000_001 + '"}', "more than 1,000,000 bytes"),
    ],
)
def test_bad_lines(pictures: Path, line: str, said: str) -> None:
    (pictures / "rows.jsonl").write_text(line)
    with pytest.raises(InvalidRequest, match=said) as caught:
        list(items([SourceSection(jsonl=pictures / "rows.jsonl")]))
    assert caught.value.field == "recipe.sources.0.jsonl"


@pytest.mark.parametrize("form", ["bytes", "huggingface", "path"])
def test_parquet(pictures: Path, form: str) -> None:
    data = [png(noisy(number)) for number in range(5)]
    values = {
        "bytes": data,
        "huggingface": [{"bytes": each, "path": "x.png"} for each in data],
        "path": [f"{number}.png" for number in range(5)],
    }[form]
    table = pa.table({"photo": values, "age": list(range(5))})
    pq.write_table(table, pictures / "t.parquet", row_group_size=2)
    found = list(items([SourceSection(parquet=pictures / "t.parquet", image_column="photo")]))
    assert [item.fields["age"] for item in found] == ["0", "1", "2", "3", "4"]
    assert all(same(item, number) for number, item in enumerate(found))
    with pytest.raises(InvalidRequest, match="no column 'image'"):
        list(items([SourceSection(parquet=pictures / "t.parquet")]))


@pytest.mark.parametrize("form", ["bytes", "huggingface", "empty"])
def test_parquet_with_masks_of_some_pictures(pictures: Path, form: str) -> None:
    masks = [png(half()), None, None]
    values = {
        "bytes": masks,
        "huggingface": [each and {"bytes": each, "path": None} for each in masks],
        "empty": [{"bytes": each, "path": None} for each in masks],
    }[form]
    table = pa.table({"image": [png(noisy(number)) for number in range(3)], "mask": values})
    pq.write_table(table, pictures / "t.parquet", row_group_size=2)
    found = list(items([SourceSection(parquet=pictures / "t.parquet")]))
    assert [item.mask is not None for item in found] == [True, False, False]
    assert isinstance(found[0].mask, InParquet)
    assert found[0].mask.read() == masks[0]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_image_folder(pictures: Path, form: str) -> None:
    half().save(pictures / "m.png")
    text = {
        "jsonl": '{"file_name": "3.png", "mask_file_name": "m.png", "text": "old man"}\n',
        "csv": "file_name,mask_file_name,text\n3.png,m.png,old man\n",
    }[form]
    (pictures / f"metadata.{form}").write_text(text)
    (found,) = items([SourceSection(imagefolder=pictures)])
    assert found.name == "3.png"
    assert same(found, 3)
    assert is_half(found)
    assert found.fields == {"text": "old man"}


def test_web_dataset(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as tar:
            for number in range(2):
                key = f"in/{shard}{number}"
                for suffix, data in (
                    ("png", png(noisy(shard * 2 + number))),
                    ("mask.png", png(half())),
                    ("json", b'{"age": 3}'),
                    ("txt", b"words"),
                ):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    found = list(items([SourceSection(webdataset=tmp_path / "s-*.tar")]))
    assert [item.name for item in found] == [
        "s-0.tar/in/00", "s-0.tar/in/01", "s-1.tar/in/10", "s-1.tar/in/11",
    ]  # fmt: skip
    assert all(same(item, number) for number, item in enumerate(found))
    assert is_half(found[3])
    assert found[0].fields == {"age": "3", "txt": "words"}


def test_a_place_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(50))
    gone = tmp_path / "gone"
    for place, said in (
        (InFile(gone), "cannot be read"),
        (InTar(gone, 0, 10), "cannot be read"),
        (InParquet(gone, 0, 0, "image"), "cannot be read"),
        (InTar(path, 45, 10), "is cut off"),
    ):
        with pytest.raises(InvalidImage, match=said):
            place.read()
    monkeypatch.setattr(places, "LARGEST_PICTURE", 9)
    monkeypatch.setattr(inputs, "MAX_FILE", 9)
    for place, said in ((InFile(path), "is larger than"), (InTar(path, 0, 10), "more than 9")):
        with pytest.raises(InvalidImage, match=said):
            place.read()


def test_coco(pictures: Path) -> None:
    told = {
        "images": [
            {"id": 7, "file_name": "1.png", "width": 48, "height": 48},
            {"id": 8, "file_name": "2.png", "width": 48, "height": 48},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 24, 48]},
            {"image_id": 7, "category_id": 2, "bbox": [40, 40, 4, 4]},
        ],
    }
    (pictures / "a.json").write_text(json.dumps(told))
    first, second = items([SourceSection(coco=pictures / "a.json", categories=("dog",))])
    assert is_half(first)
    assert first.fields["labels"] == "cat, dog"
    mask = second.load_mask(images.decode(second.image.read()))
    assert mask is not None
    assert mask.getbbox() is None


def test_coco_with_its_pictures_elsewhere(pictures: Path, tmp_path: Path) -> None:
    rows = [{"id": number, "file_name": f"{number}.png"} for number in range(2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": rows, "annotations": []}))
    elsewhere = {"coco": tmp_path / "a.json"}
    with pytest.raises(InvalidRequest, match=r"0\.png is not there; name the folder of the pic"):
        list(items([SourceSection.model_validate(elsewhere)]))
    found = list(items([SourceSection.model_validate({**elsewhere, "images": pictures})]))
    assert same(found[1], 1)


def test_blank() -> None:
    (found,) = items([SourceSection.model_validate({"blank": {"width": 32, "height": 16}})])
    assert images.decode(found.image.read()).size == (32, 16)


@pytest.mark.parametrize(
    "kind", ["folder", "jsonl", "parquet", "imagefolder", "webdataset", "coco"]
)
def test_a_source_that_is_not_there(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        list(items([SourceSection.model_validate({kind: tmp_path / "gone.tar"})]))
    assert caught.value.field == f"recipe.sources.0.{kind}"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("folder", "is a file; name its folder"),
        ("imagefolder", "is a file; name its folder"),
        ("jsonl", "is a folder; name a file in it"),
        ("coco", "is a folder; name a file in it"),
    ],
)
def test_a_source_of_another_kind_is_not_told_to_be_missing(
    tmp_path: Path, kind: str, said: str
) -> None:
    (tmp_path / "x").touch()
    place = tmp_path if said.startswith("is a folder") else tmp_path / "x"
    with pytest.raises(InvalidRequest, match=said):
        list(items([SourceSection.model_validate({kind: place})]))


@pytest.mark.parametrize(("kind", "name"), [("parquet", "x"), ("webdataset", "x"), ("coco", "x")])
def test_a_source_that_is_something_else(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01 not that at all" * 100)
    with pytest.raises(OverpaintError, match=r"cannot be read|not a COCO"):
        list(items([SourceSection.model_validate({kind: tmp_path / name})]))


def test_text_under_a_pictures_name_and_links(pictures: Path, tmp_path: Path) -> None:
    """Each fails in its own words; a link within the folder is read."""
    (pictures / "a.png").write_text("words")
    noisy(9).save(tmp_path / "away.png")
    for name, target in (("b", "gone.png"), ("c", "../away.png"), ("d", "4.png")):
        (pictures / f"{name}.png").symlink_to(target)
    found = {item.name: item for item in items([SourceSection(folder=pictures)])}
    for name, said in (
        ("a", "a text file"),
        ("b", "is not there"),
        ("c", "lies outside of the folder"),
    ):
        with pytest.raises(InvalidImage, match=said):
            found[f"{name}.png"].image.read()
    assert same(found["d.png"], 4)

"""Manifests: every kind of input gives units, and what cannot be read fails alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import pickle
from pathlib import Path

import pytest

from overpaint.core.errors import InvalidRequest
from overpaint.jobs import inputs
from overpaint.jobs import manifest as manifest_
from overpaint.jobs.manifest import Manifest, UnitDefaults
from overpaint.jobs.shard import Shard
from tests.conftest import box_mask, picture

SIZE = (64, 48)


def png(image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def text(image) -> str:
    return base64.encodebytes(png(image)).decode()


PICTURE, MASK = picture(*SIZE), box_mask(*SIZE)


def write_csv(path, header, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for index, name in enumerate(("b.png", "a.jpg", "sub/c.webp")):
        picture(*SIZE, index).save(folder / name)
    (folder / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    return folder


def units(source, model=None, **defaults):
    own = {name: defaults.pop(name) for name in ("seed", "mask_dir", "skip") if name in defaults}
    manifest = Manifest(source, UnitDefaults(parts=defaults, **own))
    return list(manifest.units(model or {"family": "sd2"}))


def error_of(unit) -> str:
    with pytest.raises(InvalidRequest) as caught:
        unit.load()
    return str(caught.value)


def test_a_table_of_the_contract(tmp_path):
    rows = write_csv(
        tmp_path / "rows.csv",
        ["prompt", "image", "mask_image", "parameters"],
        ["a kite", text(PICTURE), text(MASK), '{"seed": 7, "strength": 0.5}'],
        ["a boat", text(PICTURE), text(MASK), ""],
    )
    first, second = units(rows, options={"eta": 0.1})
    assert (first.source, first.prompt, first.seed) == ("rows.csv#0", "a kite", 7)
    request = first.load()
    assert request.image.size == request.mask.size == SIZE
    assert (request.prompt, request.seed) == ("a kite", 7)
    assert dict(request.options) == {"strength": 0.5, "eta": 0.1}
    assert (second.source, second.load().options) == ("rows.csv#1", {"eta": 0.1})
    assert second.seed not in (None, first.seed)


def test_a_folder_of_tables_in_order_of_their_names(tmp_path):
    folder = tmp_path / "in"
    (folder / "out").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "out/predictions.csv"):
        write_csv(folder / name, ["prompt", "image"], ["x", text(PICTURE)])
    (folder / "c.jsonl").write_text(json.dumps({"prompt": "x", "image": text(PICTURE)}))
    made = units(folder, skip=folder / "out")
    assert [unit.source for unit in made] == ["a.csv#0", "b.csv#0", "c.jsonl#0"]
    assert len({unit.id for unit in made}) == 3, "equal rows are told apart"
    assert len({unit.seed for unit in made}) == 3


def test_paths_start_at_the_table(tmp_path, photos):
    MASK.save(tmp_path / "mask.png")
    lines = [
        {"image": "photos/a.jpg", "mask": "mask.png", "prompt": "x"},
        {"image": "photos/gone.jpg", "prompt": "x"},
        {"image": text(PICTURE), "mask_image": "mask.png", "prompt": "x", "seed": 3},
        {"image": "https://example.org/a.png", "prompt": "x"},
    ]
    file = tmp_path / "m.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    first, gone, third, url = units(file)
    assert first.load().mask.size == first.load().image.size == SIZE
    assert "photos/gone.jpg cannot be read: No such file" in error_of(gone)
    assert third.load().seed == 3
    assert "is a URL; send the picture itself" in error_of(url)


def test_masks_and_words_beside_pictures(photos):
    MASK.save(photos / "a_mask.png")
    (photos / "a.txt").write_text("a red kite\n", encoding="utf-8")
    first, second, _ = units(photos, prompt="a boat")
    assert (first.source, second.source) == ("a.jpg", "b.png")
    request = first.load()
    assert (request.prompt, request.mask.size) == ("a red kite", SIZE)
    assert (second.load().prompt, second.load().mask) == ("a boat", None)
    (photos / "a.txt").write_bytes(b"\xff\xfe\xff")
    assert "it is not UTF-8 text" in error_of(units(photos)[0])


def test_a_folder_of_pictures(photos, tmp_path):
    masks = photos / "masks"
    (masks / "sub").mkdir(parents=True)
    MASK.save(masks / "a.png")
    MASK.save(masks / "sub" / "c.png")
    made = units(photos, prompt="a kite", mask_dir=masks, negative_prompt="fog")
    assert [unit.source for unit in made] == ["a.jpg", "b.png", "sub/c.webp"]
    request = made[0].load()
    assert (request.prompt, request.negative_prompt, request.mask.size) == ("a kite", "fog", SIZE)
    assert f"there is no mask b.png in {masks}" in error_of(made[1])
    assert made[2].load().mask is not None
    assert [unit.load().mask for unit in units(photos, mask_dir=None, skip=masks)] == [None] * 3


def test_what_phones_and_scanners_write_is_counted(photos):
    heic = Path(__file__).parents[1] / "core" / "imaging" / "codecs" / "heic" / "plain.heic"
    (photos / "IMG_1.HEIC").write_bytes(heic.read_bytes())
    picture(*SIZE).save(photos / "scan.tif")
    picture(*SIZE).save(photos / "web.avif")
    made = {unit.source: unit for unit in units(photos)}
    assert {"IMG_1.HEIC", "scan.tif", "web.avif", "a.jpg"} <= set(made)
    assert made["IMG_1.HEIC"].load().image.size == (64, 48)
    assert made["scan.tif"].load().image.size == SIZE


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["x", "nonsense!", text(MASK)], "row 0, column image: it is neither a picture's path"),
        (["x", "", text(MASK)], "row 0, column image: it is missing"),
        (["x", text(PICTURE)[:300], text(MASK)], "row 0, column image: "),
        (["x", text(PICTURE)], "row 0: it has 2 values for 3 columns"),
    ],
)
def test_a_bad_row_fails_alone(tmp_path, row, reason):
    header = ["prompt", "image", "mask_image"]
    rows = write_csv(tmp_path / "rows.csv", header, row, ["y", text(PICTURE), text(MASK)])
    bad, good = units(rows)
    assert error_of(bad).startswith(reason)
    assert good.load().prompt == "y"


def test_a_mask_of_another_size_is_stretched_as_when_it_is_served(tmp_path):
    row = ["x", text(PICTURE), text(box_mask(8, 8))]
    (stretched,) = units(write_csv(tmp_path / "rows.csv", ["prompt", "image", "mask_image"], row))
    assert stretched.load().mask.size == SIZE


def test_a_tables_own_columns_are_carried(tmp_path, photos):
    header = ["prompt", "image", "label", "id"]
    rows = write_csv(tmp_path / "rows.csv", header, ["x", "photos/a.jpg", "a boat", "7"])
    (made,) = units(rows)
    assert made.extra == {"image": "photos/a.jpg", "columns": {"label": "a boat", "id": "7"}}
    (bare,) = units(write_csv(tmp_path / "bare.csv", header[:2], ["x", "photos/a.jpg"]))
    assert bare.id == made.id, "what is carried decides no picture"


@pytest.mark.parametrize(
    ("column", "cell", "error"),
    [
        ("image", "photos/none.png", "photos/none.png cannot be read: No such file or directory"),
        ("image", "photos!", "it is neither a picture's path nor base64"),
        ("image", "x" * 300 + ".png", "File name too long"),
        ("image", "https://a.example/b.png", "the string is a URL; send the picture itself"),
        ("seed", "7.5", "it is '7.5', not a whole number from 0 to"),
        ("seed", "7" * 99, "it is a text, not a whole number from 0 to"),
        ("options", "{", "it is not JSON"),
    ],
)
def test_a_row_that_cannot_be_read_keeps_the_tables_own_columns(
    tmp_path, photos, column, cell, error
):
    record = {"prompt": "x", "image": "photos/a.jpg", "id": "7", "seed": "", "options": ""}
    record[column] = cell
    (bad,) = units(write_csv(tmp_path / "rows.csv", list(record), list(record.values())))
    assert error in error_of(bad)
    assert bad.extra["columns"] == {"id": "7"}
    is_file = record["image"].endswith(("a.jpg", "none.png", "xxx.png"))
    assert bad.extra.get("image") == (record["image"] if is_file else None)


def test_a_picture_without_its_mask_is_named(photos, tmp_path):
    (tmp_path / "masks").mkdir()
    for bad in units(photos, mask_dir=tmp_path / "masks"):
        assert "there is no mask" in error_of(bad)
        assert bad.extra == {"image": bad.source}


def test_a_slip_of_the_pen_is_no_column_of_the_tables_own(tmp_path, photos):
    rows = write_csv(tmp_path / "rows.csv", ["promt", "image"], ["x", "photos/a.jpg"])
    (bad,) = units(rows)
    assert error_of(bad).startswith("row 0, column promt: there is no such column; write prompt")


def test_text_under_a_pictures_name_and_a_link_to_nowhere(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_text("not a picture")
    (folder / "b.png").symlink_to("gone.png")
    words, link = map(error_of, units(folder))
    assert "a.png is a text file, not a picture" in words
    assert "b.png is a link to gone.png, which is not there" in link


def test_shares_have_every_row_once_and_the_same_units(tmp_path, photos):
    """Rows that are equal in everything too: their seeds tell them apart by counting."""
    lines = [[f"x{n % 6}", "photos/a.jpg"] for n in range(18)]
    manifest = Manifest(
        write_csv(tmp_path / "rows.csv", ["prompt", "image"], *lines), UnitDefaults()
    )
    whole = {unit.id: unit.seed for unit in manifest.units({})}
    shares = [list(manifest.units({}, Shard(number, 3))) for number in (1, 2, 3)]
    assert sum(map(len, shares)) == len(whole) == 18
    assert {unit.id: unit.seed for share in shares for unit in share} == whole
    assert all(shares), "each has some"


def test_bad_lines_fail_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_, "MAX_LINE", 20_000)
    good = json.dumps({"prompt": "y", "image": text(PICTURE)})
    file = tmp_path / "m.jsonl"
    file.write_bytes(
        b"\n".join([b"{torn", b"[1]", b"\xff\xfe", b"[" * 5000, b"x" * 50_000, b"", good.encode()])
    )
    *bad, last = units(file)
    reasons = [error_of(unit) for unit in bad]
    assert [reason.split(":")[0] for reason in reasons] == [f"line {n}" for n in range(1, 6)]
    assert "more than 20000 bytes" in reasons[4]
    assert last.load().prompt == "y"
    assert Manifest(file, UnitDefaults()).count() == 6


@pytest.mark.parametrize("blank", [[], [b""], [b"", b"  ", b"\t"]])
def test_lines_are_counted_as_editors_count_them(tmp_path, blank):
    """Blank lines count as lines, and are no units."""
    good = json.dumps({"prompt": "y", "image": text(PICTURE)}).encode()
    lines = [*blank, good, *blank, b"{torn", *blank, good]
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"\n".join(lines))
    first, torn, last = units(file)
    assert error_of(torn).startswith(f"line {lines.index(b'{torn') + 1}: it is not JSON")
    assert [unit.source for unit in (first, torn, last)] == [f"m.jsonl#{n}" for n in range(3)]
    assert Manifest(file, UnitDefaults()).count() == 3


def test_a_file_that_cannot_be_read_on(tmp_path):
    first = write_csv(tmp_path / "a.csv", ["prompt", "image"], ["x", text(PICTURE)])
    with first.open("ab") as file:
        file.write(b"\xff\xff,\n")
    (tmp_path / "b.csv").touch()
    write_csv(tmp_path / "c.csv", ["prompt", "image"], ["x", text(PICTURE)])
    made = units(tmp_path)
    assert [unit.source for unit in made][-2:] == ["b.csv", "c.csv#0"]
    assert "it is empty" in error_of(made[-2])
    assert any("cannot be read" in error_of(unit) for unit in made[:-2] if unit.source == "a.csv")
    assert made[-1].load().prompt == "x"


def test_an_id_is_what_decides_the_picture(photos):
    """Another name is the same unit; another picture, prompt, seed, option or model is not."""
    first = {unit.source: unit for unit in units(photos, prompt="x")}
    (photos / "a.jpg").rename(photos / "z.jpg")
    moved = {unit.source: unit for unit in units(photos, prompt="x")}
    assert moved["z.jpg"].id == first["a.jpg"].id
    assert moved["z.jpg"].seed == first["a.jpg"].seed
    picture(*SIZE, 9).save(photos / "b.png")
    assert {unit.source: unit for unit in units(photos, prompt="x")}["b.png"].id not in (
        unit.id for unit in first.values()
    )
    ids = [
        units(photos, model, **asked)[0].id
        for model, asked in [
            (None, {"prompt": "x"}),
            (None, {"prompt": "y"}),
            (None, {"prompt": "x", "seed": 1}),
            (None, {"prompt": "x", "options": {"eta": 0.5}}),
            (None, {"prompt": "x", "negative_prompt": "y"}),
            ({"family": "sd2", "revision": "2"}, {"prompt": "x"}),
        ]
    ]
    assert len(set(ids)) == len(ids)


def test_units_can_be_sent_to_another_process(photos):
    for unit in units(photos, prompt="x"):
        assert pickle.loads(pickle.dumps(unit)).load().image.sha256 == unit.load().image.sha256


@pytest.mark.parametrize(
    ("source", "asked", "field"),
    [
        ("nowhere", {}, "input"),
        ("notes.txt", {}, "input"),
        ("empty", {}, "input"),
        ("photos", {"mask_dir": "nowhere"}, "mask_dir"),
        ("rows.csv", {"mask_dir": "photos"}, "mask_dir"),
    ],
)
def test_inputs_that_are_none(photos, tmp_path, source, asked, field):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "rows.csv", ["prompt", "image"])
    asked = {name: tmp_path / value for name, value in asked.items()}
    with pytest.raises(InvalidRequest) as caught:
        Manifest(tmp_path / source, UnitDefaults(**asked))
    assert caught.value.field == field


def test_a_picture_over_the_limit(photos, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_FILE", 1000)
    assert "is larger than" in error_of(units(photos)[1])

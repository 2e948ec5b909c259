"""Every part of an edit is a column: taken where the family takes it, refused by its name else."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import InvalidRequest
from overpaint.core.types import PARTS
from overpaint.engine import checking, intake
from overpaint.jobs import rows, tables
from overpaint.jobs.manifest import Manifest, UnitDefaults
from overpaint.jobs.units import ALWAYS, identity
from tests.conftest import picture
from tests.every_part import FAMILIES_AND_PARTS, SIZE, as_files, needed, plain, png, sample

IMAGE = base64.b64encode(png(picture(*SIZE))).decode()
COLUMNS = [part for part in rows.ROW_PARTS if part.kind not in ("options", "choice")]


def as_text(part):
    """The sample of a part as JSON has it."""
    value = sample(part)
    if part.kind == "pictures":
        return [base64.b64encode(png(each)).decode() for each in value]
    return base64.b64encode(png(value)).decode() if part.is_visual else plain(value)


def same(part, value, expected) -> bool:
    if part.kind == "pictures":
        return all(np.array_equal(a, b) for a, b in zip(value, expected, strict=True))
    if part.name == "image":
        value = value.rgb
    return np.array_equal(value, expected) if part.is_visual else value == expected


def request_of(record):
    table = tables.from_json(json.dumps([record]))
    return intake.request_of(rows.parse(table.records[0], 0).parts)


def assert_as_the_family_says(spec, part, request) -> None:
    """The family takes the part, or refuses it by its name."""
    if spec.need(part.name) != "refused":
        checking.check(spec, request)
        return
    with pytest.raises(InvalidRequest) as caught:
        checking.check(spec, request)
    assert caught.value.field == part.name


def test_a_row_says_how_its_mask_is_read(tmp_path):
    paint = Image.new("RGB", SIZE, "white")
    paint.paste("red", (20, 10, 40, 30))
    paint.save(tmp_path / "mask.png")
    picture(*SIZE).save(tmp_path / "image.png")
    plain = {"image": "image.png", "mask": "mask.png"}
    lines = [json.dumps(plain), json.dumps({**plain, "mask_is": "paint"})]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    ambiguous, said = Manifest(tmp_path / "m.jsonl", UnitDefaults()).units({})
    with pytest.raises(InvalidRequest, match="mask_is"):
        ambiguous.load()
    assert said.load().mask.getpixel((30, 20)) == 255
    assert said.id != ambiguous.id


def test_a_part_is_a_column_or_left_out_with_a_reason():
    for part in PARTS:
        assert (part in rows.ROW_PARTS) != bool(rows.LEFT_OUT.get(part.name))


@pytest.mark.parametrize("part", COLUMNS, ids=lambda part: part.name)
def test_every_column_comes_through(part):
    record = {"image": IMAGE, rows.columns_of(part)[0]: as_text(part)}
    assert same(part, getattr(request_of(record), part.name), sample(part))


@pytest.mark.parametrize(("spec", "part"), FAMILIES_AND_PARTS)
def test_a_row_of_azure_ml(spec, part):
    record = {rows.columns_of(each)[0]: as_text(each) for each in needed(spec, part)}
    assert_as_the_family_says(spec, part, request_of({"image": IMAGE, **record}))


@pytest.mark.parametrize(("spec", "part"), FAMILIES_AND_PARTS)
def test_a_line_of_a_manifest(tmp_path, spec, part):
    record = {each.name: as_files(each, tmp_path) for each in needed(spec, part)}
    picture(*SIZE).save(tmp_path / "image.png")
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "image.png", **record}))
    (unit,) = Manifest(tmp_path / "m.jsonl", UnitDefaults()).units({})
    request = unit.load()
    assert same(part, getattr(request, part.name), sample(part))
    assert_as_the_family_says(spec, part, request)


OWN = ("image", "seed")


@pytest.mark.parametrize(
    "part", [part for part in COLUMNS if part.name not in OWN], ids=lambda part: part.name
)
def test_a_part_for_all_units(tmp_path, part):
    picture(*SIZE).save(tmp_path / "image.png")
    value = plain(as_files(part, tmp_path))
    if part.is_visual:
        several = value if part.kind == "pictures" else [value]
        paths = [tmp_path / name for name in several]
        value = paths if part.kind == "pictures" else paths[0]
    own = {"image": "image.png", part.name: as_text(part)}
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "image.png"}) + "\n" + json.dumps(own))
    common, row = Manifest(tmp_path / "m.jsonl", UnitDefaults(parts={part.name: value})).units({})
    assert same(part, getattr(common.load(), part.name), sample(part))
    # A row that has it itself is the same unit, counted as its twin.
    alone = list(Manifest(tmp_path / "m.jsonl", UnitDefaults()).units({}))
    assert row.id not in (common.id, alone[0].id)
    assert common.id == alone[1].id
    with pytest.raises(InvalidRequest, match="cannot be the same") as caught:
        Manifest(tmp_path / "m.jsonl", UnitDefaults(parts={"image": "image.png"}))
    assert caught.value.field == "image"


def test_several_pictures_in_a_cell_of_text():
    one, two = (base64.b64encode(png(each)).decode() for each in (picture(8, 8), picture(8, 8, 1)))
    uri = f"data:image/png;base64,{one}"
    expected = rows.parse({"image": IMAGE, "references": [one, two]}, 0).parts["references"]
    for cell in (f"{one};{two}", f"{uri} ; {two}", json.dumps([uri, two]), f"{one};{two}".encode()):
        assert rows.parse({"image": IMAGE, "references": cell}, 0).parts["references"] == expected
    assert rows.parse({"image": IMAGE, "references": one}, 0).parts["references"] == expected[:1]


@pytest.mark.parametrize(
    ("record", "column", "message"),
    [
        ({"references": ["!!!!"]}, "references", "not base64"),
        ({"references": [None]}, "references", "not base64 text"),
        ({"references": "[1"}, "references", "not JSON"),
        ({"control": 3}, "control", "3, not base64"),
        ({"num_images": 2}, "num_images", "a row for each"),
        ({"model": "sd2"}, "model", "same model"),
        ({"options": {}, "parameters": {}}, "options", "mean the same"),
        ({"options": {"eta": float("nan")}}, "options.eta", "not a finite"),
    ],
)
def test_what_is_wrong_is_said_by_column(record, column, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        rows.parse({"image": IMAGE, **record}, 2)
    assert caught.value.field == f"row 2, column {column}"


def test_ids_cover_every_part_and_those_of_earlier_versions_hold(tmp_path):
    base = {"image": b"i", "prompt": "x", "options": {}}
    keys = [identity(base)]
    for part in rows.ROW_PARTS:
        value = {"pictures": (b"a", b"b"), "options": {"eta": 1}}.get(part.kind, "other")
        if part.is_visual and part.kind != "pictures":
            value = b"other"
        keys.append(identity({**base, part.name: value}))
    assert keys[0] == keys[1 + [part.name for part in rows.ROW_PARTS].index("seed")]
    assert len({json.dumps(key) for key in keys}) == len(keys) - 1
    assert set(keys[0]) == ALWAYS
    encoded = base64.b64encode(b"not a picture").decode()
    mask = base64.b64encode(b"nor a mask").decode()
    lines = [
        {"prompt": "a kite", "image": encoded, "mask": mask, "seed": 7, "parameters": {"eta": 0.5}},
        {"prompt": "a boat", "image": encoded},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    defaults = UnitDefaults(parts={"negative_prompt": "fog"})
    made = list(Manifest(tmp_path / "m.jsonl", defaults).units({"family": "sd2"}))
    assert [(unit.id, unit.seed) for unit in made] == [
        ("c58800f66f9d04e2173cfb1dd5406314", 7),
        ("c5ddd7918d587a09bd013c366e20f59e", 4256904872),
    ]

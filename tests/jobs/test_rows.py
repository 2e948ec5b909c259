"""Every form in which people send rows, and what is wrong with those that cannot be read."""

from __future__ import annotations

import base64
import io
import json

import pytest

from overpaint.core.errors import InvalidImage, InvalidMask, InvalidRequest, UnsupportedOption
from overpaint.jobs import rows, tables
from overpaint.jobs.rows import Row
from tests.jobs.forms import (
    AS_MASK,
    BOTH,
    BROKEN_LINES,
    FIRST,
    FORMS,
    IMAGE,
    IMAGE_2,
    IMAGES,
    LISTS,
    MALFORMED,
    MASK,
    MASKS,
    ROWS,
    SECOND,
    split,
)


def read(given) -> list[Row]:
    table = tables.from_json(given if isinstance(given, str | bytes) else json.dumps(given))
    return [rows.parse(each, i, table.parameters) for i, each in enumerate(table.records)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form):
    first, second = read(FORMS[form])
    assert (first.parts["image"], second.parts["image"]) == tuple(IMAGES)
    assert (first.parts["mask"], second.parts["mask"]) == tuple(MASKS)
    assert "yellow cat" in first.prompt
    assert "green cat" in second.prompt
    assert (first.number, second.number) == (0, 1)
    assert not first.parts["options"]


def test_one_row_alone():
    (row,) = read({"input_data": FIRST})
    assert (row.prompt, row.parts["mask"]) == (FIRST["prompt"], MASKS[0])


OWN = {"seed": 7, "parameters": '{"guidance_scale": 3}'}


@pytest.mark.parametrize(
    "body",
    [
        {"input_data": split(LISTS, parameters={"guidance_scale": 3, "seed": 7})},
        {"input_data": split(LISTS), "params": {"guidance_scale": 3, "seed": 7}},
        {"dataframe_records": BOTH, "parameters": {"guidance_scale": 3, "seed": 7}},
        {"dataframe_records": [{**each, **OWN} for each in BOTH]},
    ],
)
def test_parameters_hold_for_every_row(body):
    assert [(row.parts["seed"], row.parts["options"]) for row in read(body)] == [
        (7, {"guidance_scale": 3})
    ] * 2


def test_a_row_has_the_last_word():
    own = {"seed": 5, "negative_prompt": "grass", "parameters": {"guidance_scale": 9, "eta": None}}
    given = {"seed": 1, "negative_prompt": "sky", "guidance_scale": 2, "strength": 0.5, "eta": 1}
    one, two = read({"dataframe_records": [{**FIRST, **own}, SECOND], "params": given})
    assert (one.parts["seed"], one.parts["negative_prompt"]) == (5, "grass")
    assert one.parts["options"] == {"guidance_scale": 9, "strength": 0.5}
    assert (two.parts["seed"], two.parts["negative_prompt"]) == (1, "sky")
    assert two.parts["options"] == {"guidance_scale": 2, "strength": 0.5, "eta": 1}


@pytest.mark.parametrize("seed", [7, 7.0, "7", " 7 ", "7.0", "7."])
def test_a_seed_as_tables_hold_it(seed):
    assert rows.parse({**FIRST, "seed": seed}, 0).parts["seed"] == 7


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_table_names_the_place(case):
    body, field, message = MALFORMED[case]
    with pytest.raises(InvalidRequest, match=message) as caught:
        read(body)
    assert caught.value.field == field


@pytest.mark.parametrize("case", ROWS)
def test_a_malformed_row_names_row_and_column(case):
    changes, column, message = ROWS[case]
    with pytest.raises(InvalidRequest, match=message) as caught:
        read({"dataframe_records": [FIRST, {**SECOND, **changes}]})
    assert caught.value.field == f"row 1, column {column}"


@pytest.mark.parametrize(
    ("error", "column"),
    [
        (InvalidMask("it marks nothing", field="mask"), "mask_image"),
        (InvalidImage("damaged", field="image"), "image"),
        (UnsupportedOption("too many", field="options.num_inference_steps"),
         "parameters.num_inference_steps"),
    ],
)  # fmt: skip
def test_what_the_engine_refuses_is_told_by_row_and_column(error, column):
    told = rows.parse(FIRST, 3).at(error)
    assert told.field == f"row 3, column {column}"
    assert (type(told), told.message) == (type(error), error.message)
    assert rows.parse(AS_MASK, 0).at(InvalidMask("", field="mask")).field == "row 0, column mask"


def test_hostile_names_cost_little_and_are_not_echoed():
    names = [f"c{number}" for number in range(200_000)]
    with pytest.raises(InvalidRequest, match="no rows"):
        read({"input_data": split([], names)})
    with pytest.raises(InvalidRequest) as caught:
        rows.parse({**FIRST, "x" * 10**7: "y"}, 0)
    assert len(str(caught.value)) < 400
    told = rows.parse(FIRST, 0).at(UnsupportedOption("", field="options." + "x" * 10**6))
    assert len(told.field) < 200


def csv_of(text: str) -> list:
    return list(tables.from_csv(io.StringIO(text, newline="")))


def test_csv():
    lines = [f'"a cat, yellow","{BROKEN_LINES}",{MASK}', "", f"b,{IMAGE_2},", ""]
    text = "\r\n".join(["prompt,image,mask_image", *lines])
    one, two = (rows.parse(each, i) for i, each in enumerate(csv_of(text)))
    assert (one.prompt, one.parts["image"], one.parts["mask"]) == (
        "a cat, yellow",
        IMAGES[0],
        MASKS[0],
    )
    assert (two.prompt, two.parts["image"], "mask" in two.parts) == ("b", IMAGES[1], False)


def test_csv_with_the_row_numbers_of_pandas():
    assert csv_of(f",prompt,image\n0,x,{IMAGE}\n") == [{"prompt": "x", "image": IMAGE}]


def test_a_ragged_row_of_a_csv_file_fails_alone():
    short, good, long = csv_of("prompt,image\nx\ny,z\na,b,c\n")
    assert good == {"prompt": "y", "image": "z"}
    assert (short.field, long.field) == ("row 0", "row 2")
    assert "1 values for 2 columns" in short.message


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "header", "empty"),
        ("image,image\n1,2\n", "header", "twice"),
        ("image\n" + "A" * 2**10, "line 2", "field limit"),
    ],
)
def test_a_csv_file_that_cannot_be_read(text, field, message, monkeypatch):
    monkeypatch.setattr(tables, "MAX_CELL", 2**9)
    with pytest.raises(InvalidRequest, match=message) as caught:
        csv_of(text)
    assert caught.value.field.startswith(field)


def test_a_csv_file_that_is_no_text():
    file = io.TextIOWrapper(io.BytesIO(b"image\n\xff\xfe\n"), "utf-8", newline="")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(tables.from_csv(file))


def test_an_answer():
    from overpaint.core.imaging import images

    row = rows.parse(FIRST, 0)
    told = rows.answer(row, rows.blocked((5, 3)), True)
    assert told["prompt"] == FIRST["prompt"]
    assert told["nsfw_content_detected"] is True
    black = images.decode(base64.b64decode(told["generated_image"]))
    assert black.size == (5, 3)
    assert black.rgb.getextrema() == ((0, 0),) * 3

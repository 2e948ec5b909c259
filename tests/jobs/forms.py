"""Tables of requests: every form in which people send rows, and malformed ones."""

from __future__ import annotations

import base64
import io

from tests.conftest import box_mask, picture


def encoded(image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


IMAGES = [encoded(picture(24, 16, seed=seed)) for seed in (0, 1)]
MASKS = [encoded(box_mask(24, 16)), encoded(box_mask(24, 16, (0, 0, 9, 9)))]
IMAGE, IMAGE_2 = (base64.b64encode(each).decode() for each in IMAGES)
MASK, MASK_2 = (base64.b64encode(each).decode() for each in MASKS)
BROKEN_LINES = base64.encodebytes(IMAGES[0]).decode()
DATA_URI = f"data:image/png;base64,{IMAGE}"

FIRST = {"prompt": "a yellow cat", "image": IMAGE, "mask_image": MASK}
SECOND = {"prompt": "a green cat", "image": IMAGE_2, "mask_image": MASK_2}
AS_MASK = {"prompt": "a yellow cat", "image": IMAGE, "mask": MASK}
NAMES = list(FIRST)
LISTS = [list(FIRST.values()), list(SECOND.values())]
BOTH = [FIRST, SECOND]

CARD = {
    "input_data": {
        "columns": ["prompt", "image", "mask"],
        "data": [
            {
                "prompt": "Face of a yellow cat, high resolution, sitting on a park bench",
                "image": IMAGE,
                "mask_image": MASK,
            },
            {
                "prompt": "Face of a green cat, high resolution, sitting on a park bench",
                "image": IMAGE_2,
                "mask_image": MASK_2,
            },
        ],
        "index": [0, 1],
    }
}
"""The model card's sample as it stands: `mask` among the columns, `mask_image` in the rows."""


def split(data, columns=NAMES, **more) -> dict:
    return {"columns": columns, "data": data, **more}


FORMS = {
    "the card's sample": CARD,
    "rows as lists": {"input_data": split(LISTS)},
    "rows as objects": {"input_data": split(BOTH)},
    "a list and an object": {"input_data": split([LISTS[0], SECOND])},
    "objects without columns": {"input_data": {"data": BOTH}},
    "with an index": {"input_data": split(LISTS, index=[7, 9])},
    "with labels": {"input_data": split(LISTS, index=["a", "b"])},
    "columns in another order": {
        "input_data": split([row[::-1] for row in LISTS], columns=NAMES[::-1])
    },
    "a column mask": {"input_data": split(LISTS, columns=["prompt", "image", "mask"])},
    "both mask columns, one is null": {
        "input_data": split([[*row, None] for row in LISTS], columns=[*NAMES, "mask"])
    },
    "a column of nulls": {
        "input_data": split([[*row, None] for row in LISTS], columns=[*NAMES, "negative_prompt"])
    },
    "line breaks in base64": {
        "input_data": split([[FIRST["prompt"], BROKEN_LINES, MASK], LISTS[1]])
    },
    "a data URI": {"input_data": split([[FIRST["prompt"], DATA_URI, MASK], LISTS[1]])},
    "records in the envelope": {"input_data": BOTH},
    "columns of lists in the envelope": {
        "input_data": {name: [FIRST[name], SECOND[name]] for name in NAMES}
    },
    "MLflow's dataframe_split": {"dataframe_split": split(LISTS, index=[0, 1])},
    "MLflow's dataframe_records": {"dataframe_records": BOTH},
    "MLflow's inputs, columns": {"inputs": {name: [FIRST[name], SECOND[name]] for name in NAMES}},
    "MLflow's inputs, records": {"inputs": BOTH},
    "MLflow's instances": {"instances": BOTH},
    "without an envelope": split(LISTS),
    "a bare list": BOTH,
    "pandas' own JSON": {
        "input_data": {name: {"0": FIRST[name], "1": SECOND[name]} for name in NAMES}
    },
}


MALFORMED = {
    "not JSON": ("{", "body", "not JSON"),
    "too deep": ("[" * 100_000, "body", "not JSON"),
    "a number": ("3", "body", "neither a list"),
    "no rows under any name": ({"rows": []}, "body", "exactly one of input_data"),
    "two envelopes": ({"inputs": BOTH, "instances": BOTH}, "body", "inputs and instances"),
    "an unknown key": ({"inputs": BOTH, "n": 2}, "body.n", "no such key"),
    "an unknown key in the table": ({"input_data": split([], n=2)}, "input_data.n", "no such key"),
    "no rows": ({"input_data": split([])}, "data", "no rows"),
    "rows that are text": ({"input_data": "rows"}, "input_data", "neither a list"),
    "data that is text": ({"input_data": {"data": "x"}}, "input_data.data", "not a list"),
    "columns that are text": (
        {"input_data": split([], "x")},
        "input_data.columns",
        "list of names",
    ),
    "a column twice": ({"input_data": split([], ["image"] * 2)}, "input_data.columns", "twice"),
    "a short index": ({"input_data": split(LISTS, index=[0])}, "input_data.index", "2 labels"),
    "a row that is text": ({"input_data": split(["x", "y"])}, "row 0", "neither a list"),
    "a record that is text": ({"instances": [FIRST, "y"]}, "row 1", "not an object"),
    "a list without columns": ({"input_data": {"data": LISTS}}, "row 0", "`columns`"),
    "a short row": ({"input_data": split([LISTS[0], ["x"]])}, "row 1", "1 values for 3 columns"),
    "a long row": ({"input_data": split([[*LISTS[0], 1]])}, "row 0", "4 values for 3 columns"),
    "columns of two lengths": (
        {"inputs": {**{name: [FIRST[name]] for name in NAMES}, "prompt": []}},
        "inputs, column image",
        "1 values, the first column has 0",
    ),
    "two indexes": (
        {"inputs": {"prompt": {"0": "x"}, "image": {"1": "y"}}},
        "inputs, column image",
        "index",
    ),
    "parameters twice": (
        {"input_data": split(LISTS, params={"eta": 0}), "params": {"eta": 0}},
        "parameters",
        "once",
    ),
    "parameters in both spellings": (
        {"inputs": BOTH, "params": {}, "parameters": {}},
        "parameters",
        "both",
    ),
    "parameters that are a list": ({"inputs": BOTH, "params": [1]}, "params", "not an object"),
}

ROWS = {
    "no picture": ({"image": None}, "image", "missing"),
    "an empty picture": ({"image": ""}, "image", "empty"),
    "a number for a picture": ({"image": 3}, "image", "3, not base64"),
    "a list for a picture": ({"image": [1]}, "image", "a list, not base64"),
    "a URL": ({"image": "https://example.com/a.png"}, "image", "URL; send the picture"),
    "no base64": ({"mask_image": "!!!!"}, "mask_image", "not base64"),
    "half a quantum of base64": ({"mask_image": MASK[:-1]}, "mask_image", "not base64"),
    "a number for a prompt": ({"prompt": 3.5}, "prompt", "3.5, not text"),
    "true for a prompt": ({"prompt": True}, "prompt", "True, not text"),
    "an object for a prompt": ({"prompt": {}}, "prompt", "an object, not text"),
    "a number for a negative prompt": ({"negative_prompt": 1}, "negative_prompt", "not text"),
    "two masks": ({"mask": MASK}, "mask", "mean the same"),
    "an unknown column": ({"promt": "x"}, "promt", "did you mean prompt?"),
    "a seed below 0": ({"seed": -1}, "seed", "whole number"),
    "a seed that is no number": ({"seed": "x"}, "seed", "whole number"),
    "a seed that is half": ({"seed": 1.5}, "seed", "1.5, not a whole number"),
    "a seed of many digits": ({"seed": "9" * 19}, "seed", "whole number"),
    "true for a seed": ({"seed": True}, "seed", "True, not a whole number"),
    "parameters that are no JSON": ({"parameters": "{"}, "parameters", "not JSON"),
    "parameters that are a number": ({"parameters": 2}, "parameters", "2, not an object"),
    "NaN": ({"parameters": {"eta": float("nan")}}, "parameters.eta", "nan is not"),
    "infinity as JSON": ({"parameters": '{"eta": Infinity}'}, "parameters.eta", "inf is not"),
}  # fmt: skip

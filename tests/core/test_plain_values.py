"""What is wrong with a value, in words that know no Python."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from overpaint.core import plain_values


class Point(BaseModel):
    x: int


class Sample(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = 1
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1
    flag: bool = True
    name: Annotated[str, Field(max_length=3)] = "a"
    kind: Literal["png", "jpeg"] = "png"
    box: Annotated[list[int], Field(min_length=4, max_length=4)] = [0, 0, 1, 1]
    sides: tuple[int, ...] = ()
    points: list[Point] = []


def error_of(**values) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Sample(**values)
    return caught.value


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": "two"}, "'two': give a whole number"),
        ({"count": 1.5}, "1.5: give a whole number"),
        ({"share": 0}, "0: give more than 0"),
        ({"share": 2}, "2: give at most 1"),
        ({"share": float("nan")}, "nan: give a finite number"),
        ({"flag": "maybe"}, "'maybe': give true or false"),
        ({"name": 5}, "5: give a text"),
        ({"name": "word"}, "'word': give at most 3 characters"),
        ({"name": "w" * 99}, "give at most 3 characters"),
        ({"kind": "gif"}, "'gif': give 'png' or 'jpeg'"),
        ({"box": [1, 2]}, "give a list of at least 4 values, not 2"),
        ({"box": [1, 2, 3, 4, 5]}, "give a list of at most 4 values, not 5"),
        ({"sides": "erase"}, "'erase': give a list"),
        ({"points": [[1, 2]]}, "give keys with values"),
        ({"points": [{}]}, "it is missing"),
    ],
)
def test_a_complaint_has_the_value_and_what_to_give(values, sentence):
    assert plain_values.complaint(plain_values.first_error(error_of(**values))) == sentence


def test_an_unknown_key_comes_first():
    first = plain_values.first_error(error_of(count="two", shre=1))
    assert first["loc"] == ("shre",)

"""Cells of a target distribution, and the words for them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overpaint.core.errors import InvalidRequest
from overpaint.datasets.recipes.recipe import NAME, Collect


@dataclass(frozen=True)
class Cell:
    """One combination of the axes' values.

    Attributes:
        values: by axis.
        quota: pictures wanted.
    """

    values: Mapping[str, str]
    quota: int

    @property
    def key(self) -> str:
        """Names the cell: 'colour=red, shape=star'."""
        return ", ".join(f"{axis}={value}" for axis, value in self.values.items()) or "all"


def cells(recipe: Collect) -> list[Cell]:
    """The cells of a recipe, in the order of its axes or rows.

    Raises:
        InvalidRequest: a quota of the table is not a whole number, or two rows are the same.
    """
    if recipe.table:
        every_cell = [_row(row, recipe.quota, number) for number, row in enumerate(recipe.table)]
    else:
        combinations = itertools.product(*recipe.axes.values())
        every_cell = [
            Cell(dict(zip(recipe.axes, map(str, values), strict=True)), recipe.quota)
            for values in combinations
        ]
    for key, count in Counter(cell.key for cell in every_cell).items():
        if count > 1:
            raise InvalidRequest(f"{key} is there twice", field="recipe.table")
    return every_cell


def fill(template: str, fields: Mapping[str, str], *, field: str) -> str:
    """The template with its {names} replaced; nothing else in it has a meaning.

    Raises:
        InvalidRequest: there is no such name.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            names = ", ".join(fields) or "none"
            raise InvalidRequest(
                f"'{template}' names {{{match[1]}}}; known here are {names}", field=field
            )
        return fields[match[1]]

    return NAME.sub(value, template)


def samples(recipe: Collect, cells: Sequence[Cell], most: int = 8) -> list[str]:
    """Some of the prompts, as far as the axes fill them."""
    step = max(1, len(cells) // most)
    return [
        NAME.sub(
            lambda match, cell=cell: cell.values.get(match[1], match[0]),  # type: ignore[misc]
            recipe.prompt[index % len(recipe.prompt)],
        )
        for index, cell in enumerate(cells[::step][:most])
    ]


def _row(row: Mapping[str, str | int | float], quota: int, number: int) -> Cell:
    count = row.get("quota", quota)
    if not isinstance(count, int) or count < 1:
        raise InvalidRequest(
            f"{count!r} is not a quota; give a whole number above 0",
            field=f"recipe.table.{number}.quota",
        )
    return Cell({axis: str(value) for axis, value in row.items() if axis != "quota"}, count)

"""Recipes: one YAML file says what data set is wanted.

    recipe = load(Path("shapes.yaml"), "collect", ["quota=2", "filters.duplicates=6"])

Every key can be overridden by `KEY=VALUE` with a dotted key; values are YAML.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest
from overpaint.datasets.recipes import text
from overpaint.datasets.recipes.labels import fits
from overpaint.datasets.recipes.sections import (
    COMMON,
    EditSection,
    Exact,
    Filters,
    Gate,
    LookSection,
    MaskSection,
    OutputSection,
    Rule,
    Section,
    SourceSection,
    Vision,
    with_common_parts,
)

RecipeTask = Literal["collect", "clean"]

LARGEST_FILE = 1_000_000
"""Bytes of a recipe."""

MOST_CELLS = 100_000
"""Cells of a target distribution."""

NAME = re.compile(r"\{(\w+)\}")
"""A name in a template."""


def _axis_text(value: Any) -> Any:
    """`true` is a word where a label is wanted."""
    return str(value).lower() if isinstance(value, bool) else value


AxisValue = Annotated[str | int | float, BeforeValidator(_axis_text)]


@with_common_parts
class Recipe(Section):
    """What both tasks share. Parts of an edit that are the same for all, such as `negative_prompt`
    or `references`, are keys by their own names.

    Attributes:
        name: of the data set.
        about: a sentence or two for its card.
        model: that edits; None = the settings' default.
        revision: the commit or hash that the model must have; None = any.
        sources: pictures to start from.
        options: of the model's family.
        seed: of everything; another seed gives other pictures.
        filters: what a picture must pass to be kept.
        vision: the vision model that looks, if any does.
        detector: the zero-shot detector's name, as `overpaint segment --model` takes it.
        rewrite: 'english' lets the server of `vision` translate prompts in other letters than Latin
            ones; None = they go to the model as they are.
        safety: 'required' refuses to run without a safety policy in the settings.
        output: formats and what goes into them.
    """

    name: str = Field(default="dataset", pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")
    about: str = Field(default="", max_length=4000)
    model: str | None = None
    revision: str | None = None
    sources: tuple[SourceSection, ...] = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**63)
    filters: Filters = Filters()
    vision: Vision | None = None
    detector: str | None = None
    rewrite: Literal["english"] | None = None
    safety: Literal["as set", "required"] = "as set"
    output: OutputSection = OutputSection()

    @property
    def parts(self) -> dict[str, Any]:
        """The parts that all of its edits have, by name; pictures and masks are paths of files."""
        values = {part.name: getattr(self, part.name) for part in COMMON}
        return {name: value for name, value in values.items() if value not in (None, ())}

    @model_validator(mode="after")
    def _eyes(self) -> Recipe:
        if self.rewrite is not None and self.vision is None:
            raise ValueError("rewrite needs a chat server; add vision")
        if self.filters.shows and self.filters.shows_by == "vision" and self.vision is None:
            raise ValueError(
                "filters.shows needs a vision model; add vision, or shows_by: detector"
            )
        return self


class Collect(Recipe):
    """A recipe of `overpaint collect`: pictures that are missing.

    Attributes:
        prompt: templates with {axis} names; attempts take them in turn.
        axes: values by name; every combination is a cell.
        table: the cells one by one, with a quota of their own if need be; instead of axes.
        quota: pictures wanted in each cell.
        mask: what is repainted; None for instructions.
        best_of: pictures made for each attempt, of which the best by `best_by` counts.
        best_by: the vision model's score of `filters.shows`, or sharpness.
        tries: attempts for each picture wanted, before a cell is given up.
    """

    prompt: tuple[str, ...] = Field(min_length=1)
    axes: dict[str, tuple[AxisValue, ...]] = Field(default_factory=dict)
    table: tuple[dict[str, AxisValue], ...] = ()
    quota: int = Field(default=1, ge=1)
    mask: MaskSection | None = None
    best_of: int = Field(default=1, ge=1, le=16)
    best_by: Literal["shows", "sharpness"] = "shows"
    tries: int = Field(default=10, ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _one_prompt(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("prompt"), str):
            return {**values, "prompt": [values["prompt"]]}
        return values

    @model_validator(mode="after")
    def _cells(self) -> Collect:
        if self.axes and self.table:
            raise ValueError("give axes or a table, not both")
        if any("quota" in axis for axis in self.axes):
            raise ValueError("an axis cannot be called quota")
        self._check_names()
        cells = len(self.table) or 1
        for values in self.axes.values():
            cells *= len(values)
        if not 1 <= cells <= MOST_CELLS:
            raise ValueError(f"the axes make {cells} cells; 1 to {MOST_CELLS} can be filled")
        return self

    def _check_names(self) -> None:
        """Every axis must make a difference: in words, or in where it is painted."""
        words = [*self.prompt, self.filters.shows or "", (self.mask and self.mask.find) or ""]
        prompt_names = {name for template in words for name in NAME.findall(template)}
        names = dict.fromkeys([*self.axes, *(name for row in self.table for name in row)])
        for name in names:
            if name != "quota" and name not in prompt_names:
                raise ValueError(
                    f"no prompt uses the axis '{name}'; write {{{name}}} into it, or leave it out"
                )


class Clean(Recipe):
    """A recipe of `overpaint clean`: pictures that are there, brought into line.

    Attributes:
        exact: operations without a model, done first.
        edit: one edit of every picture.
        look: what to look for in each picture.
        rules: what to do where it was found; the first that fits counts.
        gate: when an edit failed, so that the original is kept.
    """

    exact: Exact | None = None
    edit: EditSection | None = None
    look: LookSection | None = None
    rules: tuple[Rule, ...] = ()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _something(self) -> Clean:
        if self.exact is None and self.edit is None and self.look is None and not self._filters:
            raise ValueError("nothing to do; give exact, edit, look with rules, or filters")
        if (self.look is None) != (not self.rules):
            raise ValueError("look and rules go together")
        if self.look and self.look.by == "vision" and self.vision is None:
            raise ValueError("look.by is vision; add vision, or by: detector")
        if self.edit is not None and self.look is not None:
            raise ValueError("give edit (one for all) or look with rules, not both")
        if self.look is not None and self.look.labels:
            self._check_rules(self.look.labels)
        return self

    def _check_rules(self, labels: tuple[str, ...]) -> None:
        for number, rule in enumerate(self.rules):
            if not any(fits(rule.when, label, is_open=False) for label in labels):
                raise ValueError(
                    f"rule {number} is for '{rule.when}', which is none of look.labels: "
                    f"{', '.join(labels)}"
                )

    @property
    def _filters(self) -> bool:
        return self.filters != Filters()


TASKS: dict[RecipeTask, type[Recipe]] = {"collect": Collect, "clean": Clean}


def load(path: Path, task: RecipeTask, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: the YAML file; relative paths in it start at its folder.
        task: what it is for.
        overrides: `KEY=VALUE`, dotted keys, later ones win.

    Raises:
        InvalidRequest: it cannot be read, or a key is unknown or has a wrong value.
    """
    values = _read(path)
    for override in overrides:
        _set(values, override)
    return parse(values, task, base=path.absolute().parent)


def parse(values: Mapping[str, Any], task: RecipeTask, *, base: Path) -> Recipe:
    """A recipe from plain data; relative paths start at `base`.

    Raises:
        InvalidRequest: as for `load`.
    """
    try:
        return TASKS[task].model_validate(values, context={"base": base})
    except ValidationError as error:
        raise _explain(error, TASKS[task]) from error


def schema(task: RecipeTask) -> dict[str, Any]:
    """JSON Schema of a recipe, for editors."""
    document = TASKS[task].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidRequest(
                f"{path} is larger than the {LARGEST_FILE:,} bytes of a recipe", field="recipe"
            )
        values = text.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", field="recipe") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{path} cannot be read as YAML: {error}", field="recipe") from error
    if not isinstance(values, dict):
        raise InvalidRequest(f"{path} has no keys; a recipe is KEY: VALUE lines", field="recipe")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    """Put `a.b.0.c=value` where it belongs."""
    key, equals, raw = override.partition("=")
    if not equals or not key:
        raise InvalidRequest(f"'{override}' is not KEY=VALUE", field="set")
    try:
        value = text.load(raw)
    except yaml.YAMLError as error:
        raise InvalidRequest(
            f"the value of '{override}' is not YAML: {error}", field="set"
        ) from error
    *parents, last = key.split(".")
    place: Any = values
    for name in parents:
        if isinstance(place, dict) and place.get(name) is None:
            place[name] = {}
        place = _within(place, name, override)
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise InvalidRequest(f"'{override}': there are no keys below a value", field="set")


def _within(place: Any, name: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, name, override)]
    if isinstance(place, dict):
        return place[name]
    raise InvalidRequest(f"'{override}': there are no keys below a value", field="set")


def _index(place: list[Any], name: str, override: str) -> int:
    if not name.isdecimal() or int(name) >= len(place):
        raise InvalidRequest(
            f"'{override}': '{name}' is not a place in a list of {len(place)}", field="set"
        )
    return int(name)


def _explain(error: ValidationError, recipe: type[Recipe]) -> InvalidRequest:
    first = plain_values.first_error(error)
    location = [str(part) for part in first["loc"]]
    field = ".".join(["recipe", *location])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], [*recipe.model_fields, *_below()], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return InvalidRequest(f"there is no such key{hint}", field=field)
    if first["type"] == "missing":
        return InvalidRequest("this key is missing", field=field)
    return InvalidRequest(plain_values.complaint(first), field=field)


def _below() -> list[str]:
    """Keys of all sections."""
    return [name for section in Section.__subclasses__() for name in section.model_fields]

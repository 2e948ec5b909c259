"""The edits of a recipe in small: what every picture would fail with is found before the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from PIL import Image

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.images import Picture
from overpaint.core.models import ERASER
from overpaint.core.types import EditRequest
from overpaint.datasets.recipes.recipe import Clean, Collect, Recipe
from overpaint.datasets.recipes.sections import Rule
from overpaint.datasets.worker import common_parts
from overpaint.diffusion.family import FamilySpec
from overpaint.engine.checking import check_parts, parse_options

SIZE = (64, 64)


class Trial(NamedTuple):
    """An edit in small.

    Attributes:
        request: without a picture of the sources.
        key: of the recipe, whose options these are.
        own: the key that prompt and mask are below.
    """

    request: EditRequest
    key: str
    own: str


def check(spec: FamilySpec, trial: Trial) -> None:
    """Hold an edit's options and parts against the family that is to make it.

    Raises:
        InvalidRequest: it would fail with every picture; the field is the recipe's key.
    """
    try:
        parse_options(spec, trial.request.options)
        check_parts(spec, trial.request)
    except InvalidRequest as error:
        where = trial.own if error.field in ("prompt", "mask") else trial.key
        raise type(error)(error.message, field=f"{where}.{error.field}") from error


def trials(recipe: Recipe) -> Iterator[Trial]:
    """Each kind of edit that the recipe asks for."""
    if isinstance(recipe, Collect):
        request = _by_own_model(recipe, recipe.prompt[0], has_mask=recipe.mask is not None)
        yield Trial(request, "recipe", "recipe")
        return
    cleaning = cast("Clean", recipe)
    if cleaning.edit is not None:
        has_mask = cleaning.edit.mask is not None
        request = _by_own_model(recipe, cleaning.edit.prompt, has_mask=has_mask)
        yield Trial(request, "recipe", "recipe.edit")
    for number, rule in enumerate(cleaning.rules):
        if rule.do in ("instruct", "inpaint", "erase"):
            key = f"recipe.rules.{number}"
            yield Trial(_of_rule(recipe, rule), key, key)


def _of_rule(recipe: Recipe, rule: Rule) -> EditRequest:
    model = rule.model or (ERASER if rule.do == "erase" else recipe.model)
    has_mask = rule.do != "instruct"
    if model == recipe.model:
        return _by_own_model(recipe, rule.prompt, has_mask=has_mask, options=rule.options)
    return _small(rule.prompt, has_mask, model=model, options=rule.options)


def _by_own_model(
    recipe: Recipe, prompt: str, *, has_mask: bool, options: Mapping[str, Any] | None = None
) -> EditRequest:
    """With the parts that all edits by the recipe's own model have."""
    options = {**recipe.options, **(options or {})}
    return _small(prompt, has_mask, model=recipe.model, options=options, **common_parts(recipe))


def _small(prompt: str, has_mask: bool, **parts: Any) -> EditRequest:
    return EditRequest(
        image=Picture(Image.new("RGB", SIZE, "grey")),
        prompt=prompt,
        mask=Image.new("L", SIZE, 255) if has_mask else None,
        seed=0,
        **parts,
    )

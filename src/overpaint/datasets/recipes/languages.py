"""Prompts in other letters than Latin ones, which most text encoders cannot read."""

from __future__ import annotations

from collections.abc import Callable

from overpaint.core.languages import is_foreign
from overpaint.datasets.recipes.recipe import Clean, Collect, Recipe

_REQUEST = (
    "Translate this instruction for an image editor into English. Keep its meaning and names. "
    "Answer with the translation and nothing else:\n"
)


def templates(recipe: Recipe) -> list[str]:
    """The texts that the model of a recipe may be given, values of axes included."""
    if isinstance(recipe, Collect):
        values = [str(value) for axis in recipe.axes.values() for value in axis]
        return [*recipe.prompt, *values, *(str(v) for row in recipe.table for v in row.values())]
    words = []
    if isinstance(recipe, Clean):
        words = [rule.prompt for rule in recipe.rules]
        words += [recipe.edit.prompt] if recipe.edit is not None else []
    return words


def in_english(words: str, write: Callable[[str], str]) -> str:
    """The words in English, by a chat model, if they are in other letters.

    Args:
        words: a prompt; it goes to the model as it is.
        write: answers words with words.
    """
    return write(_REQUEST + words).strip().strip('"') if is_foreign(words) else words

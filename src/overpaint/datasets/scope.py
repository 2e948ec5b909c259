"""Is an edit meant for a part of the picture or for all of it? That decides how much may change."""

from __future__ import annotations

import re
from dataclasses import dataclass

from overpaint.datasets.recipes.recipe import Clean

LEAST_CHANGED = 0.0005
MOST_CHANGED = 0.9
"""Shares of the pixels that an edit of a part changes; one of all may change every pixel."""

_GLOBAL = re.compile(
    r"""
    bright|dark(er|en)|light(er|en|ing)|relight|expos(e|ure)|contrast|saturat|vibran|gamma|\bhdr\b
    |\bhues?\b|\btint|\btones?\b|warmer|cooler|colou?r\ (balance|cast|grad|temperature)
    |white\ balance
    |colou?ri[sz]e|black[\ -]and[\ -]white|monochrom|gr[ae]y[\ -]?scale|sepia|vintage
    |\bstyles?\b|painting|watercolou?r|sketch|drawing|cartoon|anime|comic|pixel\ art
    |denoise|noise|sharpen|deblur|upscal|restore|(whole|entire|full)\ (picture|image|photo|scene)
    |\b(day|night|dawn|dusk|sunset|sunrise|winter|summer|autumn|spring)(time)?\b
    |season|weather|\b(snow|rain|fog|mist|storm)(y|ing|s)?\b|background|zoom|camera\ angle
    |heller|dunkler|schwarz[\ -]?wei|helligkeit|kontrast|lumineu|plus\ (clair|sombre)
    |noir\ et\ blanc    |más\ (claro|oscur|brillante|luminos)|blanco\ y\ negro|brillo
    |밝|어둡|어두|흑백|노출|대비|채도|배경|겨울|여름|밤으로|스타일
    |更亮|变亮|變亮|调亮|更暗|变暗|黑白|曝光|对比度|饱和|背景|风格|風格
    |明るく|暗く|白黒|モノクロ|露出|コントラスト|背景|スタイル
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Scope:
    """How much of a picture an edit may change, and why.

    Attributes:
        changed: least and most of its pixels, as shares.
        why: a clause for people.
    """

    changed: tuple[float, float]
    why: str

    def note(self) -> str:
        """The assumption, as a sentence."""
        least, most = self.changed
        return (
            f"An edit fails if it changes less than {least:.2%} or more than {most:.0%} of a "
            f"picture: {self.why}; gate.changed says otherwise."
        )


def scope(recipe: Clean) -> Scope:
    """The scope that the gate holds the edits of a recipe against."""
    if recipe.gate.changed is not None:
        return Scope(recipe.gate.changed, "the recipe says so")
    words = _open_words(recipe)
    if recipe.edit is not None and recipe.edit.mask is not None and recipe.edit.mask.everywhere:
        return Scope((LEAST_CHANGED, 1.0), "the mask is the whole picture")
    for prompt in words:
        if (match := _GLOBAL.search(prompt)) is not None:
            why = f"'{match[0].strip()}' is meant for the whole picture"
            return Scope((LEAST_CHANGED, 1.0), why)
    why = "its words name a part of the picture" if words else "it has a mask"
    return Scope((LEAST_CHANGED, MOST_CHANGED), why)


def _open_words(recipe: Clean) -> list[str]:
    """The instructions of a recipe that may touch any part of a picture."""
    section = recipe.edit
    words = [section.prompt] if section is not None and section.mask is None else []
    words += [rule.prompt for rule in recipe.rules if rule.do == "instruct" and rule.within is None]
    return words

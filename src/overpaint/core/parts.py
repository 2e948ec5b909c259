"""The parts of an edit, declared once: as fields of `EditRequest`, with what the rest must know.

Decoding, checks, the safety policy, recipes, schemas, columns, forms and command-line options are
made from this table.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "picture", "pictures", "mask", "borders", "text", "number", "name", "choice", "options"
]
"""What a part is. Pictures come as files, bytes, arrays or PIL images; 'mask' is one of one channel
and of the picture's size; 'borders' is an object that says how far the picture grows; 'choice' is
one of a few words."""

MaskReading = Literal["white", "alpha", "paint", "openai"]
"""How a mask is read. white: bright = repaint. alpha: transparent = repaint. paint: what was
painted = repaint. openai: as OpenAI does, transparent = repaint; a mask of which nothing is
transparent is read as what it evidently is."""

_KEY = "part"


@dataclass(frozen=True)
class Part:
    """A part of an edit.

    Attributes:
        name: of the field of `EditRequest`, and everywhere else.
        kind: what it is.
        help: one line for people.
        required: whether every edit has one.
        family: whether a family says if it uses it; others belong to every edit.
        minimum, maximum: of a number; None = no bound.
        choices: the words of a choice.
        default: of the field of `EditRequest`; None where it is required.
    """

    name: str
    kind: Kind
    help: str
    required: bool = False
    family: bool = False
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    default: Any = dataclasses.field(default=None, compare=False)

    @property
    def is_visual(self) -> bool:
        """Whether it is pixels."""
        return self.kind in ("picture", "pictures", "mask")

    @property
    def is_screened(self) -> bool:
        """Whether the safety policy looks at it: pictures and words, but not masks."""
        return self.kind in ("picture", "pictures", "text")


def about(
    kind: Kind,
    text: str,
    *,
    family: bool = False,
    minimum: int | None = None,
    maximum: int | None = None,
    choices: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Metadata of a field of `EditRequest` that is a part.

    Args:
        kind: what it is.
        text: one line of help.
        family: whether a family says if it uses it.
        minimum, maximum: of a number.
        choices: the words of a choice.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "choices": choices}
    return {_KEY: {"kind": kind, "help": text, "family": family, **bounds}}


def parts_of(request: type) -> tuple[Part, ...]:
    """The parts that a dataclass declares, in its order."""
    return tuple(
        Part(field.name, required=_is_required(field), default=_default(field), **declared)
        for field in dataclasses.fields(request)
        if (declared := field.metadata.get(_KEY))
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return {field.default, field.default_factory} == {dataclasses.MISSING}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default

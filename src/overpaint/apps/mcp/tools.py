"""The tools that assistants are offered, and their arguments.

Arguments that are pictures are names of files below the server's folder, or data URLs. The
arguments of edits are made from the parts of an edit, so that a new part is one more argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from overpaint.apps.server.bodies.fields import AS_SENT, with_parts
from overpaint.apps.server.protocols.segments import SegmentBody
from overpaint.apps.wiring.models import families
from overpaint.core.parts import Kind, Part
from overpaint.core.types import PARTS

_PICTURE = "A file's name below the folder, or a data URL."

AS_ARGUMENT: Mapping[Kind, str] = {
    **AS_SENT,
    "picture": _PICTURE,
    "pictures": "Files' names below the folder, or data URLs.",
    "mask": f"{_PICTURE} Of the picture's size.",
    "name": "Default: the one for such an edit.",
    "options": "Such as num_inference_steps. If a name is unknown, the error lists all of them.",
}
"""Text that an argument's description adds, by the kind of its part."""

_OUTPUT = Field(
    default=None,
    max_length=1000,
    description="Name of a new file below the folder, ending in .png, .jpg or .webp. The "
    "answer then has only a small picture.",
)


def _of_family(name: str) -> tuple[Part, ...]:
    """The parts that a family does not refuse."""
    family = families.find(name)
    return tuple(part for part in PARTS if not part.family or family.need(part.name) != "refused")


class Arguments(BaseModel):
    """Arguments that all edits have beside their parts."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    output: str | None = _OUTPUT


@with_parts(PARTS, AS_ARGUMENT)
class EditArguments(Arguments):
    """Arguments of an edit with words."""


@with_parts(_of_family("erase"), AS_ARGUMENT)
class EraseArguments(Arguments):
    """Arguments of an edit without words."""


class SegmentArguments(SegmentBody):
    """Arguments of a search for a thing in a picture."""

    image: str = Field(description=f"The picture. {_PICTURE}")
    output: str | None = _OUTPUT


class VerifyArguments(BaseModel):
    """Arguments of a look at where a picture comes from."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(description=f"The picture. {_PICTURE}")


@dataclass(frozen=True)
class ToolSpec:
    """A tool.

    Attributes:
        about: for the assistant.
        arguments: the class of its arguments.
        needs: the part of an edit that it is about; without it there is no such tool.
    """

    about: str
    arguments: type[BaseModel]
    needs: str | None = None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of its arguments."""
        return self.arguments.model_json_schema()


_TOOLS: Mapping[str, ToolSpec] = {
    "edit": ToolSpec(
        "Edit a picture with words. With a mask, only the masked area is repainted, and "
        "the prompt says what it shows; without a mask, the prompt is an instruction. "
        "Pixels that are not edited stay as they are.",
        EditArguments,
    ),
    "erase": ToolSpec(
        "Remove what is under the mask, without words: texture from the same picture covers it.",
        EraseArguments,
    ),
    "extend": ToolSpec(
        "Make a picture larger and fill the border: with words, as they say; without "
        "words, with texture from the picture. Its own pixels stay as they are.",
        EditArguments,
        needs="extend",
    ),
    "segment": ToolSpec(
        "Find a thing in a picture by points, a box or words. The answer is a mask for "
        "edit and erase, white on black; name an output file to use it in the next call.",
        SegmentArguments,
    ),
    "verify": ToolSpec(
        "Show what a picture says about how it was made: marks, recipe, signatures, watermark.",
        VerifyArguments,
    ),
}

_NAMES = {part.name for part in PARTS}
TOOLS: Mapping[str, ToolSpec] = {
    name: tool for name, tool in _TOOLS.items() if tool.needs is None or tool.needs in _NAMES
}
"""The tools by name; those of parts that an edit has."""

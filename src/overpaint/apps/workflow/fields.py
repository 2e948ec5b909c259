"""The fields of the blocks' manifests: each a selector of some kinds, or a literal.

Parts of an edit come from the table of parts, and options of a family from the family, so that
names, limits, defaults and descriptions are written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from inference.core.workflows.execution_engine.entities import types as kinds
from inference.core.workflows.execution_engine.entities.types import (
    BOOLEAN_KIND,
    DICTIONARY_KIND,
    FLOAT_KIND,
    FLOAT_ZERO_TO_ONE_KIND,
    IMAGE_KIND,
    INSTANCE_SEGMENTATION_PREDICTION_KIND,
    INTEGER_KIND,
    KEYPOINT_DETECTION_PREDICTION_KIND,
    LIST_OF_VALUES_KIND,
    OBJECT_DETECTION_PREDICTION_KIND,
    STRING_KIND,
    Selector,
)
from pydantic import Field

from overpaint.apps.wiring.painting import BLOCK_PARTS, block_name
from overpaint.core.imaging.borders import ANCHORS, SIDES
from overpaint.core.parts import Kind, Part
from overpaint.core.types import FAMILY_PARTS
from overpaint.diffusion.family import FamilySpec
from overpaint.diffusion.options import FamilyOptions

DETECTIONS = [
    INSTANCE_SEGMENTATION_PREDICTION_KIND,
    OBJECT_DETECTION_PREDICTION_KIND,
    KEYPOINT_DETECTION_PREDICTION_KIND,
    # Newer than the oldest version of the engine that is supported: one mask for each class.
    *filter(None, [getattr(kinds, "SEMANTIC_SEGMENTATION_PREDICTION_KIND", None)]),
]
NUMBERS = [FLOAT_KIND, FLOAT_ZERO_TO_ONE_KIND, INTEGER_KIND]
REQUIRED: Any = ...


@dataclass(frozen=True)
class ManifestField:
    """One field of a manifest: a selector of some kinds, or a literal.

    Attributes:
        kinds: what a selector may point to.
        literal: type of a literal with its limits; None = selectors only.
        default: `...` = required.
        description, examples: for people.
    """

    kinds: Sequence[Any]
    literal: Any
    default: Any
    description: str
    examples: Sequence[Any]

    def definition(self) -> tuple[Any, Any]:
        """As pydantic's `create_model` takes it."""
        accepted: Any = Selector(kind=list(self.kinds))
        if self.literal is not None:
            accepted = accepted | self.literal
        if self.default is None:
            accepted = accepted | None
        field_info = Field(self.default, description=self.description, examples=list(self.examples))
        return accepted, field_info


IMAGE = ManifestField(
    [IMAGE_KIND],
    None,
    REQUIRED,
    "The picture to repaint.",
    ["$inputs.image", "$steps.crop.crops"],
)
SEGMENTATION = ManifestField(
    [*DETECTIONS, IMAGE_KIND],
    dict[str, Any] | list[dict[str, Any]],
    None,
    "Predictions of a segmentation model (of a detector: boxes), or a mask picture, white = "
    "repaint. If nothing was detected, the picture stays as it is.",
    ["$steps.model.predictions", "$inputs.predictions"],
)
CHOICE: dict[str, ManifestField] = {
    "classes": ManifestField(
        [LIST_OF_VALUES_KIND],
        list[str | int],
        None,
        "Names or numbers of the classes to repaint; left out: all detections.",
        [["dog", "cat"], "$inputs.classes"],
    ),
    "confidence": ManifestField(
        NUMBERS,
        Annotated[float, Field(ge=0, le=1)],
        None,
        "The lowest confidence that counts; left out: any.",
        [0.4, "$inputs.confidence"],
    ),
    "when_missing": ManifestField(
        [STRING_KIND],
        Literal["error", "keep"],
        "error",
        "If only other classes were detected: stop with an error, or keep the picture as it is.",
        ["keep", "$inputs.when_missing"],
    ),
    "invert": ManifestField(
        [BOOLEAN_KIND],
        bool,
        False,
        "Repaint everything except the detections.",
        [True, "$inputs.invert"],
    ),
}
KEEP_SIZE = ManifestField(
    [BOOLEAN_KIND],
    bool,
    False,
    "Return the input's own size instead of height x width; pixels outside the mask do not change.",
    [True, "$inputs.keep_input_size"],
)
PLACE: dict[str, ManifestField] = {
    "model": ManifestField(
        [STRING_KIND],
        str,
        None,
        "Name or folder of a model of this family; left out: as in Overpaint's settings.",
        ["flex2", "$inputs.model"],
    ),
    "server": ManifestField(
        [STRING_KIND],
        Annotated[str, Field(pattern="^https?://")],
        None,
        "URL of an Overpaint server that does the work, so that this machine needs no GPU; left "
        "out: as in Overpaint's settings, else this machine.",
        ["http://gpu-machine:8000", "$inputs.server"],
    ),
}


ANY_MODEL = replace(
    PLACE["model"],
    description="Name or folder of any model that takes a mask; left out: the default for "
    "extending if there are words, else the eraser.",
)
BORDERS: dict[str, ManifestField] = {
    **{
        side: ManifestField(
            [INTEGER_KIND, STRING_KIND],
            int | str,
            None,
            f"Pixels that are added at the {side}, or percent of the picture's side as '20%'.",
            [64, "20%", f"$inputs.{side}"],
        )
        for side in SIDES
    },
    "to": ManifestField(
        [STRING_KIND],
        str,
        None,
        "Ratio of width to height to reach; with neither it nor a side, the picture's own "
        "transparent border is filled.",
        ["16:9", "$inputs.to"],
    ),
    "anchor": ManifestField(
        [STRING_KIND],
        Literal[ANCHORS],
        None,
        "Where the picture stays in the larger one; left out: in the centre.",
        ["left", "$inputs.anchor"],
    ),
}
"""How far a picture grows: a field for each key of the part `extend`."""

_OF_PARTS: dict[Kind, tuple[Sequence[Any], Any]] = {
    "picture": ([IMAGE_KIND], None),
    "pictures": ([IMAGE_KIND], None),
    "mask": (SEGMENTATION.kinds, SEGMENTATION.literal),
    "borders": ([DICTIONARY_KIND], dict[str, Any]),
    "text": ([STRING_KIND], str),
    "number": ([INTEGER_KIND], int),
}
"""Kinds of a selector, and the type of a literal, for each kind of part."""


def parts(spec: FamilySpec) -> dict[str, ManifestField]:
    """Fields for the parts of an edit that a family takes, as the table of parts has them."""
    needs = {part: spec.accepts.get(part.name, "refused") for part in FAMILY_PARTS}
    return {
        block_name(part.name): of_part(part, required=needs.get(part) == "required")
        for part in BLOCK_PARTS
        if needs.get(part) != "refused"
    }


def of_part(part: Part, *, required: bool) -> ManifestField:
    """The field of a part, as the table of parts has it."""
    kinds, literal = _OF_PARTS[part.kind]
    if part.kind == "number":
        literal = Annotated[literal, Field(ge=part.minimum, le=part.maximum)]
    default = REQUIRED if required else None
    examples = [f"$inputs.{block_name(part.name)}"]
    return ManifestField(kinds, literal, default, part.help, examples)


def sides(default: int | None, step: int) -> dict[str, ManifestField]:
    return {
        side: ManifestField(
            [INTEGER_KIND],
            Annotated[int, Field(ge=16, le=8192, multiple_of=step)],
            default,
            f"{side.capitalize()} of the answer in pixels, a multiple of {step}; the picture is "
            f"stretched to it." + ("" if default else " Left out: the input's own size."),
            [default or 512, f"$inputs.{side}"],
        )
        for side in ("height", "width")
    }


_SHARES = {"control_strength": Annotated[float, Field(ge=0, le=1)]}
"""Options that published definitions have as a share of 1, and families with wider limits."""

_KINDS: dict[Any, list[Any]] = {int: [INTEGER_KIND], bool: [BOOLEAN_KIND]}


def family_options(options: type[FamilyOptions], *names: str) -> dict[str, ManifestField]:
    """Fields as the family's own options have them."""
    fields = {}
    for name in names:
        option = options.model_fields[name]
        literal: Any = option.annotation
        if option.metadata:
            literal = Annotated[literal, *option.metadata]
        fields[name] = ManifestField(
            _KINDS.get(option.annotation, NUMBERS),
            _SHARES.get(name, literal),
            option.default,
            option.description or name,
            [option.default, f"$inputs.{name}"],
        )
    return fields

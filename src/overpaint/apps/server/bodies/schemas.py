"""The native API's bodies and answers; they are its OpenAPI document too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from overpaint.apps.server.bodies.fields import from_text, with_parts
from overpaint.apps.server.jobs import JobStatus
from overpaint.apps.wire.examples import MASK, PICTURE
from overpaint.core import licences
from overpaint.core.models import ModelSpec
from overpaint.core.parts import Kind
from overpaint.core.safety import Category, Stage
from overpaint.core.types import PARTS
from overpaint.diffusion.family import Need

OPTIONAL = tuple(part for part in PARTS if not part.required)
REQUIRED = tuple(part for part in PARTS if part.required)


@with_parts(OPTIONAL)
class PartFields(BaseModel):
    """The parts of an edit, but for the picture."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def part_values(self, **others: Any) -> dict[str, Any]:
        """The parts by name, visual ones decoded from base64.

        Args:
            others: parts that come from elsewhere.

        Raises:
            InvalidImage: one of them is not base64.
        """
        values = {part: getattr(self, part.name, None) for part in PARTS}
        decoded = {
            part.name: from_text(part, value)
            for part, value in values.items()
            if value is not None and part.name not in others
        }
        return {**decoded, **others}


class EditFields(PartFields):
    """What an edit is, but for the picture."""

    previews: int = Field(
        default=0, ge=0, le=8, description="Number of unfinished pictures to send in `/events`."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, description="Seconds after which the edit is dropped."
    )
    fit_mask: bool = Field(
        default=False,
        description="Stretch a mask of another size to the picture's, instead of refusing it.",
    )


@with_parts(REQUIRED)
class EditBody(EditFields):
    """An edit. Pictures are base64 of their files."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image": PICTURE,
                    "mask": MASK,
                    "prompt": "a red kite in the sky",
                    "seed": 7,
                    "options": {"num_inference_steps": 4},
                }
            ]
        },
    )

    run_async: bool = Field(
        default=False,
        alias="async",
        description="Answer 202 with an id at once; the same as `Prefer: respond-async`.",
    )


class SafetyVerdict(BaseModel):
    """What was found in one text or picture: severities 0 to 7, and what reached its threshold."""

    stage: Stage
    index: int
    severities: dict[Category, int]
    flagged: list[Category]


class EditAnswer(BaseModel):
    """A finished edit.

    The same request with `seed` = `seeds[i]` and one image makes `images[i]` again.
    """

    id: str
    status: JobStatus = "done"
    images: list[str] = Field(description="base64 of PNG files.")
    seeds: list[int]
    recipe: dict[str, Any] = Field(description="What is needed to make the result again.")
    measures: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Of each picture: what was kept, what the model did to the whole picture and "
        "was undone, and the separate areas that changed.",
    )
    timings: dict[str, float] = Field(description="Seconds by stage.")
    warnings: list[str]
    safety: list[SafetyVerdict] | None = Field(
        default=None, description="What the safety policy found; null = nobody checked."
    )


class ErrorDetail(BaseModel):
    """What went wrong and what to do."""

    code: str
    message: str
    field: str | None = None
    stage: str | None = None
    category: str | None = None


class EditState(BaseModel):
    """An edit under way."""

    id: str
    status: JobStatus
    position: int | None = Field(default=None, description="Edits before it in the queue.")
    step: int | None = Field(default=None, description="Steps done by its slowest image.")
    total: int | None = Field(default=None, description="Steps of that image.")
    error: ErrorDetail | None = None


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorDetail


class Ready(BaseModel):
    """Whether the server takes edits."""

    status: Literal["ready", "loading", "failed", "stopping"] = Field(
        description="`failed`: none of its models can be loaded, or no device works."
    )
    failed: dict[str, str] | None = Field(
        default=None,
        description="Error code of each model that cannot be loaded, or fails at every edit.",
    )
    devices: dict[str, str] | None = Field(
        default=None, description="Of several devices: `ok`, or `failed` and not used any more."
    )


class PartInfo(BaseModel):
    """A part of an edit that a model takes."""

    name: str
    kind: Kind
    need: Need
    help: str = Field(description="One line for people.")


class ModelInfo(BaseModel):
    """A model that can be named in a request."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "overpaint"
    family: str
    aliases: list[str] = Field(
        default_factory=list, description="Further names; `*` = every name that is not served."
    )
    adapters: list[str] = Field(
        default_factory=list,
        description="That may be added to its name, each with a scale: `NAME+ADAPTER@0.8`.",
    )
    about: str
    licence: str
    licence_url: str | None = None
    commercial: bool
    restrictions: list[str] = Field(
        default_factory=list, description="What the licence forbids and demands, in short."
    )
    attribution: str | None = None
    is_demo: bool = Field(
        description="Whether it is a bundled toy that knows only simple shapes and colours."
    )
    real_model: str | None = Field(
        default=None, description="If this is a toy: the model to pull instead."
    )
    real_model_gb: float | None = Field(
        default=None, description="Approximate size of its download, in gigabytes."
    )
    loaded: bool
    error: str | None = Field(default=None, description="Why it could not be loaded.")
    accepts: dict[str, str] = Field(
        description="For each part of a request: required, optional or refused."
    )
    parts: list[PartInfo] = Field(description="The parts that it does not refuse.")
    options: dict[str, Any] = Field(description="JSON Schema of the family's options.")


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


def licence_of(spec: ModelSpec) -> dict[str, Any]:
    """`ModelInfo`'s fields about the licence."""
    licence = licences.find(spec)
    return {
        "licence": spec.licence if licence is None else licence.name,
        "licence_url": licence and licence.url,
        "commercial": licences.is_commercial(spec),
        "restrictions": [] if licence is None else list(licence.restrictions),
        "attribution": licence and licence.attribution,
    }

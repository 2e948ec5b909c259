"""The native API's bodies and answers; they are its OpenAPI document too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from overpaint.apps.server.jobs import Status
from overpaint.core import licences
from overpaint.core.models import ModelSpec
from overpaint.core.safety import Category, Stage
from overpaint.core.types import EditResult

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAEUlEQVR42mNsYEAFTAwjWgAAmZAAoFDIQrAAAAAA"
    "SUVORK5CYII="
)
"""A grey PNG of 16 x 16 pixels, for examples."""

MASK = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAAFElEQVR42mNgQAL8H5gYGDARMgAAI20BDofI/jkA"
    "AAAASUVORK5CYII="
)
"""A mask with its middle marked, for examples."""


class EditFields(BaseModel):
    """What an edit is, but for the picture."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(
        default=None,
        max_length=200,
        description="Name from `GET /v1/models`; left out, the default for an edit with or "
        "without a mask.",
    )
    prompt: str = Field(
        default="", description="What the masked area shall show, or the instruction."
    )
    mask: str | None = Field(
        default=None,
        description="base64, of the picture's size: white = repaint; or transparent = repaint, "
        "where transparency varies.",
    )
    copy_from: str | None = Field(
        default=None, description="Mask, base64: white = all that an eraser may copy."
    )
    not_from: str | None = Field(
        default=None, description="Mask, base64: white = what an eraser must not copy."
    )
    negative_prompt: str | None = Field(default=None, description="What shall not appear.")
    control: str | None = Field(
        default=None, description="Line, pose or depth picture, base64, for families that take one."
    )
    references: list[str] = Field(
        default_factory=list,
        max_length=15,
        description="Further pictures, base64, that the instruction refers to.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="Of the first image; the i-th uses seed + i. Left out: drawn and told.",
    )
    num_images: int = Field(default=1, ge=1, description="How many images to make.")
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="The model family's own options; their JSON Schema is in `GET /v1/models`.",
    )
    previews: int = Field(
        default=0, ge=0, le=8, description="Unfinished pictures to show in `/events` on the way."
    )
    timeout_s: float | None = Field(
        default=None, gt=0, description="Seconds after which the result is of no use any more."
    )


class EditBody(EditFields):
    """An edit. Pictures are base64 of PNG, JPEG or WebP files."""

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

    image: str = Field(description="The picture, base64.")
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
    status: Status = "done"
    images: list[str] = Field(description="base64 of PNG files.")
    seeds: list[int]
    recipe: dict[str, Any] = Field(description="Plain data that makes the result again.")
    timings: dict[str, float] = Field(description="Seconds by stage.")
    warnings: list[str]
    safety: list[SafetyVerdict] | None = Field(
        default=None, description="What the safety policy found; null = nothing was checked."
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
    status: Status
    position: int | None = Field(default=None, description="Edits before it in the queue.")
    step: int | None = Field(default=None, description="Steps done by its slowest image.")
    total: int | None = Field(default=None, description="Steps of that image.")
    error: ErrorDetail | None = None


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorDetail


class ModelInfo(BaseModel):
    """A model that can be named in a request."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "overpaint"
    family: str
    about: str
    licence: str
    licence_url: str | None = None
    commercial: bool
    restrictions: list[str] = Field(
        default_factory=list, description="What the licence forbids and demands, in short."
    )
    attribution: str | None = None
    loaded: bool
    accepts: dict[str, str] = Field(
        description="For each part of a request: required, optional or refused."
    )
    options: dict[str, Any] = Field(description="JSON Schema of the family's options.")


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


def verdicts(result: EditResult) -> list[dict[str, Any]] | None:
    """What the safety policy found, as plain data; None = nothing was checked."""
    return None if result.safety is None else [each.as_json() for each in result.safety]


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

"""Bodies and answers of `/v1/sessions`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from overpaint.apps.server.bodies.fields import AS_KEPT, with_parts
from overpaint.apps.server.bodies.schemas import EditFields
from overpaint.apps.server.jobs import JobStatus
from overpaint.apps.wire.examples import PICTURE
from overpaint.core.types import PARTS
from overpaint.sessions.rows import MAX_NAME
from overpaint.sessions.types import INPUTS, Session, Summary, Turn, TurnKind, TurnVerdict

PREFIX = "/v1/sessions"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class NewSession(_Body):
    """A session to begin."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "the kite", "image": PICTURE}]}
    )

    image: str = Field(description="The original, base64 of a picture file.")
    name: str = Field(default="untitled", max_length=MAX_NAME)


class Change(_Body):
    """What a change of a session may say of the session that it changes."""

    revision: int | None = Field(
        default=None,
        ge=0,
        description="Of the session as the caller knows it, instead of the header `If-Match`.",
    )


class NewHead(Change):
    """Where to stand: undo, redo, restore and branch are all this."""

    turn: str = Field(max_length=20)


class NewName(Change):
    """Another name."""

    name: str = Field(max_length=MAX_NAME)


class TurnMark(_Body):
    """What may change about a turn."""

    is_kept: bool = Field(description="Whether to keep a candidate visible, as a branch.")


class TurnBody(EditFields):
    """One more turn: the fields of `POST /v1/edits` without the picture."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "make the circle red", "revision": 1}]}
    )

    parent: str | None = Field(
        default=None,
        max_length=20,
        description="The turn to continue from. Default: the current one.",
    )
    from_original: bool = Field(
        default=False,
        description="Edit the original again with all instructions so far, so that errors of the "
        "model do not accumulate.",
    )
    revision: int | None = Field(
        default=None,
        ge=0,
        description="Of the session as the caller knows it; this or the header `If-Match` is "
        "needed. 409 if somebody else has changed the session since.",
    )
    measure_later: bool = Field(
        default=False,
        description="Answer as soon as there is a result; `measures` and their warnings are added "
        "to the turn a little later.",
    )
    run_async: bool = Field(
        default=True, alias="async", description="false: wait, and answer when it is done."
    )


_NOT_SHOWN = ("image", "mask", "mask_is", "num_images")
_SHOWN = tuple(part for part in PARTS if part.name not in _NOT_SHOWN)
"""The parts that a turn tells as it keeps them; its mask has an address."""


@with_parts(_SHOWN, AS_KEPT)
class TurnInfo(BaseModel):
    """One turn; only `measures` and `is_kept` change.

    Of further pictures it has the sha256 of the files.
    """

    id: str
    parent: str | None
    kind: TurnKind
    created: str
    picture: str = Field(description="Address of the PNG.")
    thumbnail: str = Field(description="Address of a small WebP.")
    mask: str | None = Field(description="Address of the mask's PNG.")
    measures: dict[str, Any] | None = Field(
        description="Compared with the turn before (`previous`) and with the original; with "
        "`measure_later` they are added a little later."
    )
    verdict: TurnVerdict
    warnings: list[str]
    candidates: int = Field(description="Pictures that the edit made.")
    candidate_of: str | None = Field(description="The turn of which this is another candidate.")
    is_kept: bool = Field(description="Whether this candidate is kept visible, as a branch.")
    format: str | None = Field(description="Of the file that the original came from.")
    from_original: bool
    inputs: dict[str, Any] = Field(
        description="Other inputs of the edit, by part: addresses of pictures and masks, words."
    )
    recipe: dict[str, Any]
    safety: list[dict[str, Any]] | None

    @classmethod
    def of(cls, session: str, turn: Turn) -> TurnInfo:
        """A turn with the addresses of its pictures."""
        at = f"{PREFIX}/{session}/turns/{turn.id}"
        fields = turn.as_json()
        fields |= {
            "picture": f"{at}/picture",
            "thumbnail": f"{at}/thumbnail",
            "mask": None if turn.mask is None else f"{at}/mask",
            "inputs": _inputs(turn, f"{at}/inputs"),
        }
        return cls(**{name: fields[name] for name in cls.model_fields})


def _inputs(turn: Turn, at: str) -> dict[str, Any]:
    """The inputs of a turn; those that are pictures as addresses below that one."""
    inputs: dict[str, Any] = dict(turn.inputs)
    for part in INPUTS:
        addresses = [f"{at}/{part.name}?number={i}" for i in range(len(turn.files_of(part)))]
        if addresses:
            inputs[part.name] = addresses if part.kind == "pictures" else f"{at}/{part.name}"
    return inputs


class _Named(BaseModel):
    """What is told of a session everywhere."""

    id: str
    name: str
    created: str
    updated: str
    revision: int
    head: str

    @staticmethod
    def fields_of(session: Session | Summary) -> dict[str, Any]:
        """These fields."""
        return {name: getattr(session, name) for name in _Named.model_fields}


class SessionInfo(_Named):
    """A session with all its turns."""

    undo: str | None = Field(description="The turn before the head.")
    redo: str | None = Field(description="The turn after the head that was last undone.")
    turns: list[TurnInfo]

    @classmethod
    def of(cls, session: Session) -> SessionInfo:
        """A session as clients see it."""
        return cls(
            **cls.fields_of(session),
            undo=session.undo,
            redo=session.redo,
            turns=[TurnInfo.of(session.id, turn) for turn in session.turns],
        )


class SessionSummary(_Named):
    """A session in a list."""

    turns: int
    thumbnail: str
    bytes: int = Field(description="Of its pictures on the disk.")

    @classmethod
    def of(cls, summary: Summary) -> SessionSummary:
        """A session in a list, as clients see it."""
        return cls(
            **cls.fields_of(summary),
            turns=summary.turns,
            bytes=summary.bytes,
            thumbnail=f"{PREFIX}/{summary.id}/turns/{summary.head}/thumbnail",
        )


class SessionList(BaseModel):
    """The caller's sessions, the one changed last first."""

    data: list[SessionSummary]


class TurnAccepted(BaseModel):
    """A turn under way; `/v1/edits/{id}` and its `/events` follow it."""

    id: str = Field(description="Of the edit.")
    status: JobStatus
    session: str
    revision: int = Field(description="Of the session from now on.")
    position: int | None = None
    step: int | None = None
    total: int | None = None


class TurnAnswer(BaseModel):
    """A finished turn."""

    id: str = Field(description="Of the edit.")
    status: JobStatus = "done"
    session: str
    revision: int
    turn: TurnInfo
    candidates: list[str] = Field(description="Ids of all turns that the edit made, best first.")
    images: list[str] = Field(description="Empty: the pictures are in the session.")
    seeds: list[int]
    recipe: dict[str, Any]
    timings: dict[str, float]
    warnings: list[str]
    safety: list[dict[str, Any]] | None


class ComparisonInfo(BaseModel):
    """One turn beside another; docs/sessions.md says what each number means."""

    changed: float
    region: float
    kept_identical: float | None
    kept_psnr: float | None
    kept_ssim: float | None
    colour_shift: float | None
    sharpness: float | None
    similarity: float | None

"""What all tables of the settings share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from overpaint.core.errors import InvalidSettings


def _from_base(path: Path, info: ValidationInfo) -> Path:
    """Relative paths of a settings file start at its folder."""
    base: Path = (info.context or {}).get("base", Path())
    return base / path.expanduser()


def is_device(name: str) -> str:
    if not re.fullmatch(r"[a-z]+(:\d+)?( *, *[a-z]+(:\d+)?)*", name):
        raise ValueError(
            "must be auto, all, cpu, mps, xpu, cuda, cuda:NUMBER, or several of those with commas "
            "between them"
        )
    return name


def is_repository(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError("must be OWNER/NAME of a hub repository")
    return name


FilePath = Annotated[Path, AfterValidator(_from_base)]


class Table(BaseModel):
    """A table of the settings: unknown keys are refused, values are fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChatSettings(Table):
    """A model behind OpenAI's chat completions.

    Attributes:
        base_url: of the API; None = there is none.
        model: its name there.
        key: of the API.
        timeout_s: seconds that one answer may take.
    """

    base_url: str | None = Field(default=None, pattern="^https?://")
    model: str = ""
    key: SecretStr | None = None
    timeout_s: float = Field(default=30, gt=0)

    @model_validator(mode="after")
    def _names_a_model(self) -> ChatSettings:
        if self.base_url is not None and not self.model:
            raise ValueError("base_url needs a model: its name in that API")
        return self


class RewriterSettings(ChatSettings):
    """A chat model that makes prompts of short wishes; without one, prompts stay as they are."""

    timeout_s: float = Field(default=30, gt=0, le=600)


def named_keys(lines: Iterable[str], where: str) -> dict[str, str]:
    """API keys by name from lines of `name:key`.

    Raises:
        InvalidSettings: a line is something else; the message names `where`.
    """
    keys = {}
    for number, line in enumerate(lines, 1):
        name, colon, key = line.strip().partition(":")
        if not name or not colon or not key:
            raise InvalidSettings(f"entry {number} is not NAME:KEY", field=where)
        keys[name] = key
    return keys

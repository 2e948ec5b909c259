"""Settings of sessions: where they are kept, how much, and who judges what was made."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr

from overpaint.apps.settings.base import ChatSettings, FilePath, Table


class WarnSettings(Table):
    """From where on a measure of a turn becomes a warning; see `sessions.judges.measures`."""

    kept_psnr: float = Field(default=35, ge=0)
    kept_ssim: float = Field(default=0.95, ge=0, le=1)
    colour_shift: float = Field(default=2, ge=0)
    sharpness: float = Field(default=0.8, gt=0, le=1)
    similarity: float = Field(default=0.7, ge=-1, le=1)


class SessionSettings(Table):
    """Where sessions are kept, and how much of them.

    Attributes:
        enabled: whether the server keeps sessions for its callers.
        url: of a database, as SQLAlchemy takes it; None = SQLite in the folder. It can hold a
            password.
        folder: of the pictures; None = `overpaint/sessions` in the user's data folder.
        max_sessions: of one caller.
        max_turns: of one session.
        max_gb: of all pictures together.
        similarity_model: folder of a CLIP or DINO checkpoint that compares pictures as wholes.
        warn: from where on a measure becomes a warning.
    """

    enabled: bool = True
    url: SecretStr | None = None
    folder: FilePath | None = None
    max_sessions: int = Field(default=1000, ge=1)
    max_turns: int = Field(default=1000, ge=2)
    max_gb: float = Field(default=100, gt=0)
    similarity_model: FilePath | None = None
    warn: WarnSettings = WarnSettings()

    def place(self, environ: Mapping[str, str] | None = None) -> Path:
        """The folder of the pictures and of SQLite's file."""
        if self.folder is not None:
            return self.folder
        environ = os.environ if environ is None else environ
        variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME"
        base = environ.get(variable)
        home = Path(environ.get("HOME", "~")).expanduser()
        return (Path(base) if base else home / ".local" / "share") / "overpaint" / "sessions"


class JudgeSettings(ChatSettings):
    """A vision model that judges whether an edit was done; without one, pixels are compared."""

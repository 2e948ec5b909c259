"""A folder with pictures, and the command line inside and outside this process."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer import testing
from typer.testing import CliRunner

from overpaint.apps.cli.commands import app
from tests.conftest import box_mask, picture

SIZE, HOLE = (96, 80), (34, 28, 62, 52)

# The commands are put together once and not for each call, which takes longer than many of them.
testing._get_command = functools.cache(testing._get_command)


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photo.png and mask.png; no settings from outside."""
    for name in list(os.environ):
        if name.startswith("OVERPAINT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "desk"
    folder.mkdir()
    picture(*SIZE).save(folder / "photo.png")
    box_mask(*SIZE, HOLE).save(folder / "mask.png")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def overpaint(desk: Path) -> Callable[..., Ran]:
    """Run the command line in this process."""

    def run(*arguments: object, stdin: bytes | None = None) -> Ran:
        done = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout_bytes, done.stderr)

    return run


@pytest.fixture
def overpaint_process(desk: Path) -> Callable[..., Ran]:
    """Run the command line in a process of its own."""

    def run(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
        done = subprocess.run(
            command(*arguments),
            input=stdin,
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=300,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return run


def command(*arguments: object) -> list[str]:
    """The command line as a list for a subprocess."""
    start = "import sys; from overpaint.apps.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, *(str(each) for each in arguments)]


def pixels(file: Path | str) -> np.ndarray:
    """An image file as an array."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))

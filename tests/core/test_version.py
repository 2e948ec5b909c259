"""One version: the package's own, which pyproject.toml reads where the package has it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import overpaint

ROOT = Path(__file__).parents[2]


def test_the_distribution_has_the_packages_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    stated = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert f'__version__ = "{overpaint.__version__}"' in stated

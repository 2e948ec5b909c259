"""Settings with a blocklist, and a count of what models compute."""

from __future__ import annotations

import os

import pytest

from overpaint.families.flux1 import flex2, kontext
from overpaint.families.sd import sd2

FAMILIES = {"sd2": sd2.SD2, "flex2": flex2.Flex2, "kontext": kontext.Kontext}
BAD = "a forbidden thing"
WORDS = """
[[lists]]
category = "violence"
words = ["forbidden"]
"""


@pytest.fixture
def settings_file(tmp_path, checkpoint_folder, monkeypatch):
    """(lines of `[safety]`) → the settings file in use, with the tiny checkpoints as models."""
    for name in [
        each for each in os.environ if each.startswith(("OVERPAINT_", "CONTENT_SAFETY", "UAI_"))
    ]:
        monkeypatch.delenv(name)
    (tmp_path / "words.toml").write_text(WORDS)
    lines = ['device = "cpu"', 'dtype = "float32"']
    lines += ["[defaults]", 'inpaint = "my-sd2"', 'edit = "my-kontext"']
    for family in FAMILIES:
        lines += [f"[models.my-{family}]", f'family = "{family}"']
        lines += [f"folder = '{checkpoint_folder(family)}'"]

    def write(*safety: str):
        file = tmp_path / "overpaint.toml"
        file.write_text("\n".join([*lines, "[safety]", *safety]), encoding="utf-8")
        monkeypatch.setenv("OVERPAINT_CONFIG", str(file))
        return file

    return write


@pytest.fixture
def computed(monkeypatch):
    """Names of the methods that encode pictures and words, or predict, as they are called."""
    calls: list[str] = []

    def counted(family, name):
        real = getattr(family, name)

        def call(self, *arguments):
            calls.append(name)
            return real(self, *arguments)

        monkeypatch.setattr(family, name, call)

    for family in FAMILIES.values():
        for name in ("plan", "prepare", "predict", "decode"):
            counted(family, name)
    return calls

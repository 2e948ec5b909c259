"""The README's and the documents' examples run as they stand.

The models they name are tiny checkpoints with random weights here: models of one's own win over
well-known ones, so a settings file is all it takes.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overpaint.apps.cli.commands import app
from tests.conftest import box_mask, picture

ROOT = Path(__file__).parent.parent
SIZE = (96, 80)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def shell_lines() -> list[str]:
    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("overpaint ")]


@pytest.fixture
def desk(tmp_path, monkeypatch, checkpoint_folder):
    picture(*SIZE).save(tmp_path / "photo.jpg")
    box_mask(*SIZE).save(tmp_path / "mask.png")
    models = [
        f"[models.{name}]\nfamily = '{name}'\nfolder = '{checkpoint_folder(name)}'\n"
        for name in ("sd2", "kontext", "flex2")
    ]
    settings = "dtype = 'float32'\ncache = 'cache'\n" + "".join(models)
    (tmp_path / "overpaint.toml").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("OVERPAINT_CONFIG", str(tmp_path / "overpaint.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run(desk):
    lines = shell_lines()
    assert len(lines) >= 5
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert done.exit_code == 0, f"{line}: {done.stderr}"
    assert (desk / "photo-edited.png").is_file()
    assert (desk / "photo-edited-2.png").is_file()
    assert (desk / "winter.png").is_file()


@pytest.mark.parametrize("block", blocks("README.md", "python"))
def test_the_python_runs(desk, capsys, block):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_settings_of_the_documents_are_settings(tmp_path):
    from overpaint.apps import settings

    (block,) = blocks("docs/settings.md", "toml")
    file = tmp_path / "overpaint.toml"
    file.write_text(block, encoding="utf-8")
    loaded = settings.load({"OVERPAINT_CONFIG": str(file)})
    assert len(loaded.own_models()) == len(tomllib.loads(block)["models"])


def test_every_setting_has_its_reason():
    from overpaint.apps.settings import Defaults, ModelSettings, Settings

    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md"))
    keys = [f"defaults.{name}" for name in Defaults.model_fields]
    keys += [f"models.NAME.{name}" for name in ModelSettings.model_fields]
    keys += [name for name in Settings.model_fields if name not in {"defaults", "models"}]
    missing = [key for key in keys if f"| `{key}` |" not in text and f"| `{key}." not in text]
    assert not missing


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (each for group in groups for each in group):
        name = re.split(r"[\[<>=~! ;]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", text), f"{name} has no reason"
    assert "torchvision" not in str(groups)

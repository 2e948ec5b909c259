"""The commands and programs of README and the documents run as they stand, in their order.

The models that they name are tiny checkpoints with random weights here: models of one's own win
over well-known ones, so a settings file is all it takes. A block whose title says what it needs is
not run.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import pytest
from PIL import Image
from typer.testing import CliRunner

from overpaint.apps.cli.commands import app
from tests.conftest import box_mask, picture
from tests.docs.pages import ROOT, blocks

SIZE = (96, 80)

LARGER = {"docs/segmentation.md": (360, 420)}
"""Pages whose commands name places beyond the usual picture."""

SETTINGS = """
dtype = "float32"
cache = "cache"
licences = "licences.json"

[provenance]
recipe = true
"""

OUTSIDE = ("pip ", "make ", "export ", ". ")
"""How commands begin that are other programs'."""


def running(*languages):
    """Blocks without a title, as parameters; pages of examples have no such block."""
    found = [each for each in blocks(*languages) if not each.needs]
    return [each for each in found if each.page.startswith(("README", "docs/"))]


PAGES_THAT_RUN = sorted({each.page for each in running("sh")})


@pytest.fixture
def desk(tmp_path, monkeypatch, checkpoint_folder):
    """Makes a folder with everything that the commands of a page name, and stands in it."""

    def make(page):
        size = LARGER.get(page, SIZE)
        put_files(tmp_path, size)
        models = [
            f"[models.{name}]\nfamily = '{name}'\nfolder = '{checkpoint_folder(name)}'\n"
            for name in ("sd2", "flex2", "klein")
        ]
        (tmp_path / "overpaint.toml").write_text(SETTINGS + "".join(models), encoding="utf-8")
        for variable, value in {
            "OVERPAINT_CONFIG": "overpaint.toml",
            "XDG_CONFIG_HOME": "config",
            "XDG_DATA_HOME": "data",
        }.items():
            monkeypatch.setenv(variable, str(tmp_path / value))
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


def put_files(folder, size):
    photo, mask = picture(*size), box_mask(*size)
    for name in ("photo.jpg", "photo.png", "photos/photo.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo.save(folder / name)
    for name in ("mask.png", "sign.png", "masks/photo.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        mask.save(folder / name)
    rotated = photo.convert("RGBA")
    rotated.paste(Image.new("RGBA", (12, size[1])), (0, 0))
    rotated.save(folder / "rotated.png")
    row = {"prompt": "a red kite", "image": "photo.png", "mask_image": "mask.png"}
    (folder / "rows.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n", "utf-8")
    (folder / "manifest.jsonl").write_text(json.dumps(row) + "\n", "utf-8")


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_the_commands_run(desk, page):
    folder = desk(page)
    if page == "docs/provenance.md":
        run("overpaint erase photo.png --mask mask.png -o edited.png")
    lines = [
        line
        for block in running("sh")
        if block.page == page
        for line in re.sub(r"\\\n", " ", block.text).splitlines()
        if line and not line.startswith(OUTSIDE)
    ]
    for line in lines:
        run(line)
    if page == "README.md":
        assert len(lines) >= 5
        assert (folder / "photo-edited-2.png").is_file()
        assert (folder / "winter.png").is_file()


def run(line):
    words = shlex.split(line, comments=True)
    assert words[0] == "overpaint", line
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{line}: {done.stderr}"


@pytest.mark.parametrize("block", running("python"), ids=lambda each: f"{each.page}-{each.line}")
def test_the_python_runs(desk, capsys, block):
    desk(block.page)
    exec(compile(block.text, block.page, "exec"), {})
    assert bool(capsys.readouterr().out) is ("print(" in block.text)


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

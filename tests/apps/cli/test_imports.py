"""What each command imports: a list of what it must not, held against a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")
"""What only edits with weights need."""

LIST = """
import json, sys
from overpaint.apps.cli import main
try:
    main()
finally:
    names = {name.partition(".")[0] for name in sys.modules} | set(sys.modules)
    really = [name for name in names if getattr(sys.modules.get(name), "__spec__", None)]
    sys.stderr.write("\\n" + json.dumps(really))
"""


def imported(desk, *arguments: object) -> set[str]:
    """Modules that a command has imported at its end; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", LIST, *map(str, arguments)],
        cwd=desk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("erase", "photo.png", "--mask", "mask.png"),
        ("segment", "thing.png", "--box", "12,12,48,48", "-o", "found.png"),
        ("models",),
        ("models", "erase"),
        ("models", "flex2"),
        ("licence", "show", "kontext"),
        ("session", "list"),
    ],
    ids=" ".join,
)
def test_commands_without_weights_import_no_torch(desk, arguments):
    thing = Image.new("RGB", (60, 60), "white")
    thing.paste("red", (20, 20, 40, 40))
    thing.save(desk / "thing.png")
    assert not imported(desk, *arguments) & set(HEAVY)


def test_verify_imports_no_torch(desk):
    imported(desk, "erase", "photo.png", "--mask", "mask.png", "-o", "made.png")
    assert not imported(desk, "verify", "made.png") & set(HEAVY)


def test_an_edit_with_weights_imports_what_its_family_names(desk, checkpoint_folder):
    modules = imported(
        desk, "inpaint", "photo.png", "a kite", "--mask", "mask.png", "--seed", 1,
        "--model", checkpoint_folder("sd2"), "-O", "num_inference_steps=1",
    )  # fmt: skip
    assert {"torch", "diffusers", "transformers"} <= modules
    late = {"peft", "torch._dynamo", "torch._inductor", "scipy.stats", "sympy", "numba"}
    assert not modules & late


def test_the_library_changes_nothing_in_its_host():
    code = (
        "import os; before = dict(os.environ); import overpaint; overpaint.load('erase'); "
        "from overpaint import blocks; assert dict(os.environ) == before; import torch._dynamo; "
        "assert torch._dynamo.optimize"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""What each command imports: a list of what it must not, held against a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from PIL import Image

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")
"""What only edits with weights need."""

LIST = """
import json, sys
from overpaint.apps.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    names = {name.partition(".")[0] for name in sys.modules} | set(sys.modules)
    really = [name for name in names if getattr(sys.modules.get(name), "__spec__", None)]
    sys.stderr.write("\\nIMPORTED " + json.dumps(really) + "\\n")
"""


def imported(desk, *commands: list[str]) -> list[set[str]]:
    """Modules that a process has imported after each of its commands, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", LIST, json.dumps(commands)],
        cwd=desk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("IMPORTED ")]
    assert len(lines) == len(commands)
    return [set(json.loads(line.removeprefix("IMPORTED "))) for line in lines]


def test_commands_without_weights_import_no_torch(desk):
    thing = Image.new("RGB", (60, 60), "white")
    thing.paste("red", (20, 20, 40, 40))
    thing.save(desk / "thing.png")
    commands = [
        ["--help"],
        ["models"],
        ["models", "erase"],
        ["models", "flex2"],
        ["licence", "show", "kontext"],
        ["session", "list"],
        ["segment", "thing.png", "--box", "12,12,48,48", "-o", "found.png"],
        ["erase", "photo.png", "--mask", "mask.png", "-o", "made.png"],
        ["verify", "made.png"],
    ]
    for command, modules in zip(commands, imported(desk, *commands), strict=True):
        assert not modules & set(HEAVY), command


def test_an_edit_with_weights_imports_what_its_family_names(desk, checkpoint_folder):
    [modules] = imported(
        desk,
        [
            "inpaint", "photo.png", "a kite", "--mask", "mask.png", "--seed", "1",
            "--model", str(checkpoint_folder("sd2")), "-O", "num_inference_steps=1",
        ],
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

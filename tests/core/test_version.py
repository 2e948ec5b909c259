"""One version, with and without the package being installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import overpaint

SOURCE = Path(overpaint.__file__).parents[1]

CHECK = """
import sys
from importlib import metadata
sys.path.insert(0, sys.argv[1])
from_name = metadata.Distribution.from_name
def missing(name):
    if name == "overpaint":
        raise metadata.PackageNotFoundError(name)
    return from_name(name)
metadata.Distribution.from_name = missing
from PIL import Image
import overpaint
picture = Image.new("RGB", (64, 48), "white")
picture.putpixel((20, 20), (0, 0, 0))
mask = Image.new("L", (64, 48))
mask.paste(255, (15, 15, 25, 25))
print(overpaint.load("erase").edit(picture, mask=mask, seed=1).recipe["overpaint"])
"""


def test_an_edit_from_a_source_tree_that_is_not_installed():
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == overpaint.__version__

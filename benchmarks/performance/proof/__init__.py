"""What a card does with every model, in one run of a few minutes: `__main__` says how."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("overpaint") is None:
    # A source tree on a machine where nothing of it is installed.
    sys.path.insert(0, str(Path(__file__).parents[3] / "src"))

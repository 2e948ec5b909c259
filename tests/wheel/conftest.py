"""The built wheel in an environment of its own; `make test-wheel` runs this folder.

Elsewhere nothing is collected: scripts/wheel-venv makes the environment, and WHEEL_VENV names it.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("WHEEL_VENV") else ["test_*.py"]

"""What the server's package needs where another server speaks HTTP."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart")


@pytest.mark.parametrize(
    "module",
    [
        "overpaint.apps.azure.entry_script",
        "overpaint.apps.azure.scoring",
        "overpaint.apps.server.schemas",
    ],
)
def test_rows_are_scored_without_a_web_framework(module):
    code = f"import sys; sys.modules.update(dict.fromkeys({FRAMEWORKS})); import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

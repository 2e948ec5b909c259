"""LiteLLM in front of a real server; `make test-litellm` runs this folder.

LiteLLM has an environment of its own (scripts/litellm-venv), which LITELLM_VENV names; without it
nothing is collected.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("LITELLM_VENV") else ["test_*.py"]

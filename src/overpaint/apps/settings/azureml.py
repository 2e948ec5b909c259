"""What Azure ML tells a deployment through the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODEL_VARIABLE = "AZUREML_MODEL_DIR"
OUTPUT_VARIABLE = "AZUREML_BI_OUTPUT_PATH"


@dataclass(frozen=True)
class Deployment:
    """Places of a deployment.

    Attributes:
        model: folder of the registered model; None = none was registered.
        output: folder for the files of a batch; None = this is not a batch deployment.
    """

    model: Path | None = None
    output: Path | None = None


def deployment(environ: Mapping[str, str] | None = None) -> Deployment:
    """The places, from the process's own environment where none is given."""
    environ = os.environ if environ is None else environ
    model, output = environ.get(MODEL_VARIABLE), environ.get(OUTPUT_VARIABLE)
    return Deployment(Path(model) if model else None, Path(output) if output else None)

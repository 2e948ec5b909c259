"""The command `overpaint export`: a checkpoint in the form of another system."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from overpaint.apps.cli import console

app = typer.Typer(no_args_is_help=True, help="Export a model for another system.")


@app.callback()
def _root() -> None:
    """Keeps `mlflow` a word of its own while it is the only one."""


@app.command("mlflow")
def mlflow(
    model: Annotated[str, typer.Argument(help="Name, or folder in diffusers layout.")],
    out: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write; it must not exist.")
    ],
) -> None:
    """An MLflow model: prompt, image, mask_image in; generated_image, nsfw_content_detected out."""
    from overpaint.apps import settings as settings_

    with console.reporting_errors(as_json=False):
        settings = settings_.load()
        with console.waiting(f"Exporting {model}", hidden=False):
            from overpaint.apps.azure import mlflow_model

            mlflow_model.save(model, out, settings)
    sys.stdout.write(f"{out}\n")

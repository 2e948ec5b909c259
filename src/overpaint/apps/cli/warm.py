"""The command `overpaint warm`: compile a model ahead of its first edits."""

from __future__ import annotations

from typing import Annotated

import typer

from overpaint.apps.cli import console


def warm(
    model: Annotated[str, typer.Argument(help="Name of the model, or its folder.")],
    as_json: console.Json = False,
) -> None:
    """Compile a model for this machine now, and keep the result for later starts."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring import warming

    with console.reporting_errors(as_json=as_json):
        report = warming.warm(model, settings_.load())
        if as_json:
            console.print_json(vars(report))
        else:
            console.say(str(report))

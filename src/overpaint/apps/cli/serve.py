"""The commands `overpaint serve` and `overpaint mcp`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing.edits import DeviceNames, Dtype
from overpaint.core.errors import InvalidSettings

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings


Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-M", help="Model to serve; repeatable. Default: from the settings."),
]


def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on. If other machines can reach it, it needs keys."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", min=0, max=65535, help="Port to listen on; 0 takes any free one."
        ),
    ] = 8000,
    model: Models = None,
    device: DeviceNames = None,
    dtype: Dtype = None,
    log_level: Annotated[
        Literal["debug", "info", "warning"],
        typer.Option("--log-level", help="The lowest level that is logged."),
    ] = "info",
) -> None:
    """Serve edits over HTTP, and a page to make them on."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import defaults

    with console.reporting_errors(as_json=False):
        settings = _with_options(settings_.load(), model, device, dtype)
        settings.server.check_address(host)
        with console.waiting("Starting", hidden=False):
            from overpaint.apps.server.run import run
            from overpaint.checkpoints.placement import choose, first_device

            choose(first_device(settings.device), settings.dtype)
        if not settings.server.models:
            console.warn(defaults.notices(settings))
        run(settings, host=host, port=port, log_level=log_level, on_listening=_tell)


def mcp(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            "-f",
            help="Folder in which the assistant may read and create files. Default: it may "
            "open no files.",
        ),
    ] = None,
    model: Models = None,
    device: DeviceNames = None,
    dtype: Dtype = None,
) -> None:
    """Let assistants edit pictures, as tools of the Model Context Protocol on standard streams."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import defaults

    with console.reporting_errors(as_json=False):
        settings = _with_options(settings_.load(), model, device, dtype)
        try:
            from overpaint.apps.mcp import serving
        except ModuleNotFoundError as error:
            raise InvalidSettings(
                "tools for assistants need another package: pip install 'overpaint[mcp]'",
                field="mcp",
            ) from error
        from overpaint.apps.server import logs

        logs.configure("WARNING")
        if not settings.server.models:
            console.warn(defaults.notices(settings))
        serving.run(settings, folder)


def _with_options(
    settings: Settings, model: list[str] | None, device: str | None, dtype: str | None
) -> Settings:
    """The settings with what the command line says.

    Raises:
        ModelNotFound: there is no such model.
    """
    from overpaint.apps.wiring.models import catalogue

    changes: dict[str, object] = {}
    if device:
        changes["device"] = device
    if dtype:
        changes["dtype"] = dtype
    if model:
        changes["server"] = settings.server.model_copy(update={"models": tuple(model)})
    settings = settings.model_copy(update=changes)
    for name in settings.server.models:
        catalogue.find_model(name, settings)
    return settings


def _tell(address: str) -> None:
    # On the standard output: the standard error has log lines, for programs.
    sys.stdout.write(f"The page is at {address}\n")
    sys.stdout.flush()

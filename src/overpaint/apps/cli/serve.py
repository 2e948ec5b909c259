"""The command `overpaint serve`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from overpaint.apps.cli import console
from overpaint.apps.cli.editing.edits import DeviceNames, Dtype


def serve(
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; others than this machine need keys."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 = any.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-M", help="Model to serve; repeatable. Default: the settings."),
    ] = None,
    device: DeviceNames = None,
    dtype: Dtype = None,
    log_level: Annotated[
        Literal["debug", "info", "warning"],
        typer.Option("--log-level", help="The least that is logged."),
    ] = "info",
) -> None:
    """Serve edits over HTTP, and the page to make them on."""
    from overpaint.apps import settings as settings_
    from overpaint.apps.wiring.models import catalogue, defaults

    with console.reporting_errors(as_json=False):
        settings = settings_.load()
        changes: dict[str, object] = {}
        if device:
            changes["device"] = device
        if dtype:
            changes["dtype"] = dtype
        if model:
            changes["server"] = settings.server.model_copy(update={"models": tuple(model)})
        settings = settings.model_copy(update=changes)
        settings.server.check_address(host)
        for name in settings.server.models:
            catalogue.find_model(name, settings)
        with console.waiting("Starting", hidden=False):
            from overpaint.apps.server.run import run
            from overpaint.checkpoints.placement import choose, first_device

            choose(first_device(settings.device), settings.dtype)
        if not settings.server.models:
            console.warn(defaults.notices(settings))
        run(settings, host=host, port=port, log_level=log_level, on_listening=_tell)


def _tell(address: str) -> None:
    # On the standard output: the standard error has log lines, for programs.
    sys.stdout.write(f"The page is at {address}\n")
    sys.stdout.flush()

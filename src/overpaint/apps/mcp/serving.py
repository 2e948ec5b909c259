"""An MCP server on this process's standard streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import ValidationError

from overpaint.apps.mcp.door import Door
from overpaint.apps.mcp.folder import Folder
from overpaint.apps.mcp.tools import TOOLS
from overpaint.apps.server.bodies import forms
from overpaint.apps.server.service import EditService
from overpaint.apps.settings import Settings
from overpaint.core.errors import InvalidRequest, OverpaintError
from overpaint.core.version import __version__

_READ_ONLY = ("verify",)


def run(settings: Settings, folder: Path | None) -> None:
    """Serve the tools until the client closes its end.

    Args:
        settings: all of them; those of the server bound what an edit may take here, too.
        folder: whose files the assistant may name; None = none.

    Raises:
        InvalidSettings: the folder is not there.
        ModelNotFound, ModelLoadError: a model to serve is not there.
    """
    files = None if folder is None else Folder.at(folder)
    asyncio.run(_serve(EditService(settings), files))


async def _serve(service: EditService, folder: Folder | None) -> None:
    async with _door(service, folder) as door:
        server = _server(door)
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())


@asynccontextmanager
async def _door(service: EditService, folder: Folder | None) -> AsyncIterator[Door]:
    await service.start()
    door = Door(service, folder)
    try:
        yield door
    finally:
        # Nobody is left to take an answer.
        service.ending.begin()
        service.cut_off()
        await service.stop()
        door.close()


def _server(door: Door) -> Server[Any]:
    async def list_tools(
        _: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[_tool(name) for name in TOOLS])

    async def call_tool(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        async def on_step(step: int, total: int) -> None:
            await context.session.report_progress(step, total)

        try:
            arguments = _arguments(params)
            result: CallToolResult = await getattr(door, params.name)(arguments, on_step)
        except OverpaintError as error:
            return _failure(error)
        return result

    return Server(
        "overpaint", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool
    )


def _tool(name: str) -> Tool:
    spec = TOOLS[name]
    hints = ToolAnnotations(
        read_only_hint=name in _READ_ONLY, destructive_hint=False, open_world_hint=False
    )
    return Tool(name=name, description=spec.about, input_schema=spec.schema(), annotations=hints)


def _arguments(params: CallToolRequestParams) -> Any:
    """A call's arguments.

    Raises:
        InvalidRequest: there is no such tool, or one of them does not fit.
    """
    if params.name not in TOOLS:
        raise InvalidRequest(f"there is no such tool; there are {', '.join(TOOLS)}", field="name")
    try:
        return TOOLS[params.name].arguments.model_validate(params.arguments or {})
    except ValidationError as error:
        raise forms.invalid(error, TOOLS[params.name].arguments) from error


def _failure(error: OverpaintError) -> CallToolResult:
    """An error as the assistant gets it, so that it can do better."""
    details = {"code": error.code, "message": error.message, "field": getattr(error, "field", None)}
    return CallToolResult(
        content=[TextContent(text=str(error))],
        structured_content={"error": details},
        is_error=True,
    )

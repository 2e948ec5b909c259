"""The application: routes, the guard before them, errors as answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from overpaint import __version__
from overpaint.apps.server import errors, metrics
from overpaint.apps.server.bodies.schemas import Ready
from overpaint.apps.server.bounds.connections import SlowReaders, report_shortage
from overpaint.apps.server.door.hosts import Hosts
from overpaint.apps.server.guard import Guard, Keys
from overpaint.apps.server.logs import AccessLog, report
from overpaint.apps.server.protocols import (
    azure,
    catalogue,
    models,
    native,
    oip,
    openai,
    page,
    segments,
    session_files,
    session_turns,
    sessions,
)
from overpaint.apps.server.pulls import Pulls
from overpaint.apps.server.service import EditService
from overpaint.apps.server.shelf import Shelf
from overpaint.apps.settings import Settings
from overpaint.apps.wire.intake import MEGA
from overpaint.core import plain_values
from overpaint.core.errors import InvalidRequest, OverpaintError

_log = logging.getLogger(__name__)

_HTTP_ERRORS: dict[int, type[errors.Refusal]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
}


_ROUTES = (
    native,
    models,
    catalogue,
    segments,
    sessions,
    session_turns,
    session_files,
    openai,
    oip,
    azure,
    page,
)


def create_app(settings: Settings, *, loopback_only: bool = True, alone: bool = True) -> FastAPI:
    """The server as an ASGI application; its models load with the application's lifespan.

    Args:
        settings: all of them.
        loopback_only: refuse requests by other host names than localhost; for servers that listen
            on this machine alone.
        alone: no other replica shares its address; else asynchronous edits are refused.

    Raises:
        InvalidSettings: a key is unusable.
        ModelNotFound, ModelLoadError: a model to serve is not there.
    """
    service = EditService(settings, alone=alone)
    keys = Keys(settings.server.all_keys())
    app = FastAPI(
        title="Overpaint",
        version=__version__,
        summary="Text-guided image inpainting and editing.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.desk = segments.Desk()
    app.state.shelf = Shelf(settings)
    app.state.pulls = Pulls(
        service.settings,
        allowed=settings.server.may_pull(loopback_only=loopback_only),
        serve=service.serve,
    )
    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    for routes in _ROUTES:
        app.include_router(routes.router)
    _add_operations(app, service)
    app.add_exception_handler(OverpaintError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_parameter)
    app.add_middleware(_LastResort)
    app.add_middleware(
        Guard,
        keys=keys,
        max_body=int(settings.server.max_body_mb * MEGA),
        body_timeout=settings.server.body_timeout_s,
        hosts=Hosts(
            settings.server.allowed_hosts, settings.server.origins, loopback_only=loopback_only
        ),
    )
    app.add_middleware(SlowReaders, seconds=settings.server.write_timeout_s)
    app.add_middleware(AccessLog, count=service.metrics.requested)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service, desk, shelf = app.state.service, app.state.desk, app.state.shelf
    asyncio.get_running_loop().set_exception_handler(report_shortage)
    await service.start()
    tidying = asyncio.create_task(shelf.tidy())
    yield
    tidying.cancel()
    app.state.pulls.close()
    await service.stop()
    desk.close()
    shelf.close()


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that routes read themselves, and the keys."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        _drop_answers(document, "422")  # wrong parameters are answered with 400, as all else is
        components = document.setdefault("components", {})
        schema = oip.InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= schema.pop("$defs") | {"InferRequest": schema}
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
        }
        document["security"] = [{}, {"bearer": []}, {"apiKey": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _drop_answers(document: dict[str, Any], status: str) -> None:
    """Take answers out that FastAPI documents and this server never gives."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop(status, None)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)


def _add_operations(app: FastAPI, service: EditService) -> None:
    @app.get("/healthz", tags=["operation"])
    def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        response_model_exclude_none=True,
        responses={503: {"model": Ready, "description": "not ready"}},
    )
    def readyz(response: Response) -> Ready:
        """Models are loaded and edits are accepted."""
        response.status_code = 200 if service.ready else 503
        failed = {name: errors.code_of(error) for name, error in service.health.errors.items()}
        return Ready(
            status=service.readiness, failed=failed or None, devices=service.batcher.device_states
        )

    @app.get("/metrics", tags=["operation"], response_class=Response)
    def metrics_() -> Response:
        """Prometheus metrics."""
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


async def _answer_error(request: Request, error: Exception) -> Response:
    if errors.status_of(error) >= 500 and not isinstance(error, errors.Refusal):
        report(_log, "refused", error)
    # It may be a job's, kept for others to ask; the frames here hold this request.
    errors.forget_frames(error)
    return errors.response(error, request.url.path)


async def _answer_wrong_parameter(request: Request, error: Exception) -> Response:
    """Of the query or the path; bodies are read by the routes themselves."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    refusal = InvalidRequest(plain_values.complaint(first), field=name[:100])
    return errors.response(refusal, request.url.path)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers or {}
    kind = _HTTP_ERRORS.get(error.status_code, errors.Refusal)
    message = {
        404: "there is nothing at this address; GET /openapi.json lists what there is",
        405: f"this address takes {headers.get('Allow')}",
    }.get(error.status_code, str(error.detail))
    answer = errors.response(kind(message), request.url.path)
    answer.status_code = error.status_code
    for name, value in headers.items():
        answer.headers[name] = value
    return answer


class _LastResort:
    """Errors that nobody expected: logged here, told to nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ConnectionAbortedError:
            raise  # the client does not read its answer
        except Exception as error:
            if scope["type"] != "http":
                raise
            report(_log, "unexpected", error)
            if not started:
                await errors.response(error, scope["path"])(scope, receive, send)

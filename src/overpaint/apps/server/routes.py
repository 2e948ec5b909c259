"""What routes share: the service behind them, and the errors that they document."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from overpaint.apps.server.bodies import forms
from overpaint.apps.server.bodies.schemas import ErrorAnswer
from overpaint.apps.server.errors import UnsupportedMediaType
from overpaint.apps.server.service import EditService
from overpaint.core import plain_values

Body = TypeVar("Body", bound=BaseModel)

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": about}
    for status, about in {
        400: "the request is at fault; `field` says where",
        401: "no valid API key",
        403: "foreign origin, or a licence to accept first",
        404: "no such model or edit",
        408: "the body arrived too slowly",
        409: "cancelled, or an idempotency key used twice",
        413: "the body is too large",
        415: "neither JSON nor multipart",
        429: "the queue is full; see Retry-After",
        503: "stopping, loading, or out of memory",
        504: "the deadline passed",
    }.items()
}


def service_of(request: Request) -> EditService:
    """The application's service."""
    service = request.app.state.service
    assert isinstance(service, EditService)
    return service


def parsed(raw: bytes, kind: type[Body]) -> Body:
    """A JSON body.

    Raises:
        InvalidRequest: it does not fit, or has a key twice; the field says where.
    """
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        raise forms.invalid(error, kind) from error
    plain_values.loads(raw)  # which the other reader is not: of a key that comes twice it takes one
    return body


async def json_body(request: Request, kind: type[Body]) -> Body:
    """The JSON body of a request that makes no edit.

    Raises:
        Stopping, UnsupportedMediaType, InvalidRequest.
    """
    service = service_of(request)
    service.check_running()
    require_type(request, "application/json")
    return await service.read(parsed, await forms.body(request), kind)


async def body_with_files(request: Request, kind: type[Body]) -> tuple[Body, dict[str, Any]]:
    """The body of a request that brings pictures, as JSON or as a form.

    Returns:
        The body, and the files of a form by the part's name.

    Raises:
        UnsupportedMediaType, InvalidRequest.
    """
    require_type(request, "application/json", "multipart/form-data")
    raw = await forms.body(request)
    if forms.media_type(request) == "application/json":
        return await service_of(request).read(parsed, raw, kind), {}
    return forms.body_of(await forms.parse(request, raw), kind)


def require_type(request: Request, *types: str) -> None:
    """Refuse bodies of another media type.

    Raises:
        UnsupportedMediaType.
    """
    if forms.media_type(request) not in types:
        raise UnsupportedMediaType(f"send {' or '.join(types)}")

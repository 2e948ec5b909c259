"""From errors to HTTP answers: the server's own refusals, and each protocol's error object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from overpaint.apps.azure.schema import error_body
from overpaint.apps.wire.errors import Refusal as Refusal
from overpaint.apps.wire.errors import code_of as code_of
from overpaint.apps.wire.errors import may_pass as may_pass
from overpaint.apps.wire.errors import message_of as message_of
from overpaint.apps.wire.errors import named_message
from overpaint.apps.wire.errors import status_of as status_of
from overpaint.core import errors


class Unauthorized(Refusal):
    """No API key, or a wrong one."""

    code = "unauthorized"
    status = 401


class Forbidden(Refusal):
    """The request comes from a foreign web page, or by a foreign host name."""

    code = "forbidden"
    status = 403


class NotFound(Refusal):
    """Nothing is at this address, or not for this caller."""

    code = "not_found"
    status = 404


class MethodNotAllowed(Refusal):
    """This address knows other methods."""

    code = "method_not_allowed"
    status = 405


class SlowBody(Refusal):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408


class Conflict(Refusal):
    """An idempotency key is used for another request."""

    code = "conflict"
    status = 409


class BodyTooLarge(Refusal):
    """The body is larger than the limit."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(Refusal):
    """The body is neither JSON nor multipart."""

    code = "unsupported_media_type"
    status = 415


class Stopping(Refusal):
    """The server finishes what it accepted and takes nothing more."""

    code = "stopping"
    status = 503


DOCUMENTED = (400, 401, 403, 404, 408, 409, 413, 415, 429, 503, 504)
"""Statuses that every edit route may answer with."""

RETRIED = (408, 409, 429, *range(500, 600))
"""Statuses after which OpenAI's clients repeat a request, unless `x-should-retry` forbids it."""

RETRY_SECONDS = 5.0
"""Where an error does not know better."""

SCORING = ("/score", "/invocations", "/swagger.json")
"""Routes of Azure ML's and MLflow's servers, whose errors have a `message`."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OPENAI_CODES = {
    "content_blocked": "moderation_blocked",
    "overloaded": "rate_limit_exceeded",
    "unauthorized": "invalid_api_key",
}


def forget_frames(error: BaseException | None) -> None:
    """Let an error that is kept forget the frames that it went through, and their pictures."""
    # The causes of an error may lead back to it.
    ids: set[int] = set()
    while error is not None and id(error) not in ids:
        ids.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def response(error: BaseException, path: str) -> JSONResponse:
    """The answer to a request at `path`, in its protocol's shape."""
    status = status_of(error)
    headers = {}
    if status in (429, 503):
        seconds = getattr(error, "retry_after", None) or RETRY_SECONDS
        headers["retry-after"] = str(math.ceil(seconds))
    if status in RETRIED and not may_pass(error):
        headers["x-should-retry"] = "false"
    if isinstance(error, Stopping):
        headers["connection"] = "close"
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body(error, path), status, headers)


def body(error: BaseException, path: str) -> Mapping[str, Any]:
    """The error object of the protocol that lives at `path`."""
    if path.startswith("/v2"):
        return {"error": _oip(error)}
    if path.startswith(("/v1/images", "/openai")):
        return {"error": _openai(error)}
    if path in SCORING:
        return error_body(error)
    return {"error": native(error)}


def native(error: BaseException) -> dict[str, Any]:
    """`code`, `message`, and where there is one the `field`, or the safety stage and category."""
    details: dict[str, Any] = {
        "code": code_of(error),
        "message": message_of(error),
    }
    if isinstance(error, errors.InvalidRequest):
        details["field"] = error.field
    if isinstance(error, errors.ContentBlocked):
        details |= {"stage": error.stage, "category": error.category}
    return details


def _oip(error: BaseException) -> str:
    """One text; options are `parameters` there."""
    message = named_message(error)
    if isinstance(error, errors.UnsupportedOption) and message.startswith("options."):
        return f"parameters.{message.removeprefix('options.')}"
    return message


def _openai(error: BaseException) -> dict[str, Any]:
    status = status_of(error)
    code = code_of(error)
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = message_of(error)
    if isinstance(error, errors.ContentBlocked):
        kind = "image_generation_user_error"
        message = f"{message} safety_violations=[{error.category}]"
    # Options are fields of their own there.
    field = error.field if isinstance(error, errors.InvalidRequest) else ""
    field = field.removeprefix("options.")
    return {
        "message": f"{field}: {message}" if field else message,
        "type": kind,
        "param": field or None,
        "code": _OPENAI_CODES.get(code, code),
    }

"""From errors to statuses of HTTP, and what a caller may read of them."""

from __future__ import annotations

from typing import ClassVar

from overpaint.core import errors
from overpaint.core.errors import OverpaintError


class Refusal(OverpaintError):
    """A request is refused before anybody looks at what it asks for."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400


STATUSES: dict[type[OverpaintError], int] = {
    errors.ModelNotFound: 404,
    errors.SessionNotFound: 404,
    errors.InvalidSettings: 500,
    errors.OutputError: 500,
    errors.InvalidRequest: 400,
    errors.ContentBlocked: 400,
    errors.LicenceNotAccepted: 403,
    errors.ModelLoadError: 503,
    errors.SafetyUnavailable: 503,
    errors.RewriterUnavailable: 503,
    errors.LocatorUnavailable: 503,
    errors.Overloaded: 429,
    errors.DeadlineExceeded: 504,
    errors.OutOfMemory: 503,
    errors.BrokenResult: 502,
    errors.SessionConflict: 409,
    errors.StoreUnavailable: 503,
    errors.Cancelled: 409,
}
"""The status of each error; subclasses stand before their bases."""


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for those that nobody raised on purpose."""
    if isinstance(error, Refusal):
        return error.status
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)


USELESS = (errors.BrokenResult, errors.ModelLoadError, errors.InvalidSettings, errors.OutputError)
"""Errors of the server that the same request meets again."""


def may_pass(error: BaseException) -> bool:
    """Whether the same request may get another answer later, although nobody changes anything."""
    status = status_of(error)
    return (status >= 500 or status in (408, 429)) and not isinstance(error, USELESS)


def code_of(error: BaseException) -> str:
    """The stable name of an error's kind."""
    return error.code if isinstance(error, OverpaintError) else "internal_error"


def message_of(error: BaseException) -> str:
    """What a caller may read: nothing about the server's own files and faults."""
    if isinstance(error, errors.ModelLoadError):
        return "the model cannot be loaded; the server's log says why"
    if isinstance(error, errors.StoreUnavailable):
        return "sessions cannot be read or written now; the server's log says why"
    if not isinstance(error, OverpaintError) or status_of(error) == 500:
        return "something went wrong in the server; its log says what"
    return error.message


def named_message(error: BaseException) -> str:
    """The message after the field's name, where the protocol has no place of its own for it."""
    message = message_of(error)
    return f"{error.field}: {message}" if isinstance(error, errors.InvalidRequest) else message

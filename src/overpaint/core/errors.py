"""Every error that Overpaint raises on purpose, as one tree.

    OverpaintError
    ├── InvalidRequest          the caller's input is at fault; carries the field
    │   ├── InvalidImage
    │   ├── InvalidMask
    │   ├── UnsupportedOption
    │   ├── InvalidSettings     the configuration is at fault
    │   ├── ModelNotFound
    │   ├── SessionNotFound     no session or turn of that name
    │   └── OutputError         the place to write to is at fault
    ├── ContentBlocked          a safety policy refused; carries stage and category
    ├── LicenceNotAccepted
    ├── ModelLoadError
    ├── SafetyUnavailable
    ├── RewriterUnavailable     the chat model that rewrites prompts does not answer
    ├── LocatorUnavailable      the vision model that finds what is named does not answer
    ├── Overloaded
    ├── DeadlineExceeded
    ├── OutOfMemory
    ├── BrokenResult            the model gave values that are no numbers
    ├── SessionConflict         the session has changed since it was read
    ├── StoreUnavailable        sessions cannot be read or written
    ├── RunStopped              a run of many edits gave up: they all failed in one way
    └── Cancelled

`code` is stable and machine-readable; the message is one sentence that says what is wrong, with
the value, and what to do. Errors of torch, PIL and others are mapped where they arise.
"""

from __future__ import annotations

from typing import ClassVar


class OverpaintError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        retry_after: seconds after which a new attempt makes sense, where that is known.
    """

    code: ClassVar[str] = "error"
    retry_after: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(OverpaintError):
    """The caller's input is at fault.

    Attributes:
        field: name of the offending field, dotted for nested ones (`options.strength`).
    """

    code = "invalid_request"

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidImage(InvalidRequest):
    """A picture cannot be decoded, or breaks a limit."""

    code = "invalid_image"


class InvalidMask(InvalidRequest):
    """A mask does not fit its picture, or marks nothing."""

    code = "invalid_mask"


class UnsupportedOption(InvalidRequest):
    """An option is unknown to the family, out of range, or contradicts another."""

    code = "unsupported_option"


class InvalidSettings(InvalidRequest):
    """A setting is unknown, has a wrong value, or its file cannot be read."""

    code = "invalid_settings"


class ModelNotFound(InvalidRequest):
    """No model of that name is configured, or its files are not on this machine."""

    code = "model_not_found"


class SessionNotFound(InvalidRequest):
    """There is no session, or no turn in it, of that name."""

    code = "session_not_found"


class OutputError(InvalidRequest):
    """The output cannot be written: folder missing, not writable, disk full."""

    code = "output_error"


class ContentBlocked(OverpaintError):
    """The safety policy refused the request or its result.

    Attributes:
        stage: 'prompt', 'negative_prompt', 'input_image' or 'output_image'.
        category: the category that reached its threshold.
    """

    code = "content_blocked"

    def __init__(self, message: str, *, stage: str, category: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.category = category


class LicenceNotAccepted(OverpaintError):
    """The model's licence must be accepted first."""

    code = "licence_not_accepted"


class ModelLoadError(OverpaintError):
    """A checkpoint is incomplete, unsafe, of the wrong kind, or does not match its hash."""

    code = "model_load_error"


class SafetyUnavailable(OverpaintError):
    """A configured safety checker did not answer; nothing passes unchecked."""

    code = "safety_unavailable"


class RewriterUnavailable(OverpaintError):
    """The chat model that is set to rewrite prompts did not answer with one."""

    code = "rewriter_unavailable"


class LocatorUnavailable(OverpaintError):
    """The vision model that is set to find what an instruction names did not answer with a place.

    The edit is not made: with another choice of areas the same seed would give another picture.
    """

    code = "locator_unavailable"


class Overloaded(OverpaintError):
    """The queue is full."""

    code = "overloaded"
    retry_after: float

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(OverpaintError):
    """The request's deadline passed before its result was ready."""

    code = "deadline_exceeded"


class OutOfMemory(OverpaintError):
    """The model or the edit does not fit the memory there is."""

    code = "out_of_memory"


class BrokenResult(OverpaintError):
    """The model gave values that are not numbers, so it made no picture."""

    code = "broken_result"


class SessionConflict(OverpaintError):
    """Somebody else changed the session since it was read."""

    code = "conflict"


class StoreUnavailable(OverpaintError):
    """The database or the folder of sessions cannot be reached, or does not fit this version."""

    code = "store_unavailable"


class RunStopped(OverpaintError):
    """A run of many edits ended early, because one after the other would fail in the same way."""

    code = "run_stopped"


class Cancelled(OverpaintError):
    """The caller cancelled the edit."""

    code = "cancelled"

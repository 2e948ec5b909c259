"""Edits on an Overpaint server, for machines without a GPU: the native API, `POST /v1/edits`."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from overpaint.core import errors
from overpaint.core.errors import InvalidRequest, OverpaintError
from overpaint.core.imaging import images
from overpaint.core.imaging.borders import Borders
from overpaint.core.imaging.images import Picture
from overpaint.core.parts import Part
from overpaint.core.safety import Verdict
from overpaint.core.types import PARTS, EditRequest, EditResult

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import RemoteSettings

_AT_ONCE = 8
"""Requests under way together: the server mixes their steps."""

_LARGEST_ANSWER = 512 * 2**20

_URL = re.compile(r"https?://[^/?#@\\\s]+(/[^?#\\\s]*)?", re.ASCII)
"""No `@` and no `\\`: readers disagree about which part of such a URL is the host."""


_WAIT = 5.0
"""Seconds to wait where a busy server does not say how many."""


class RemoteError(OverpaintError):
    """The server cannot be reached, did not answer with an edit, or with an error
    that is no edit's.

    Attributes:
        status: of HTTP; None = there was no answer.
        retry_after: seconds after which a new attempt makes sense; None = the server names none.
    """

    code = "remote_error"

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Server:
    """An Overpaint server.

    Args:
        url: `http://machine:8000`.
        settings: the timeout, and the key, which is sent only to the URL that it is set for.
    """

    def __init__(self, url: str, settings: RemoteSettings) -> None:
        if not _URL.fullmatch(url):
            raise InvalidRequest(
                f"'{url}' is not an http:// or https:// URL of a host, without a name or password",
                field="server",
            )
        self._url = url.rstrip("/")
        self._timeout = settings.timeout_s
        self._headers = {"content-type": "application/json"}
        is_ours = settings.url is not None and self._url == settings.url.rstrip("/")
        if settings.key is not None and is_ours:
            self._headers["authorization"] = f"Bearer {settings.key.get_secret_value()}"

    def run(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        """Have requests answered, several at a time.

        Raises:
            RemoteError: no connection, no answer in time, or no Overpaint server.
            OverpaintError: what the server refuses, as if it had been refused here.
        """
        with ThreadPoolExecutor(min(_AT_ONCE, len(requests))) as pool:
            return list(pool.map(self._edit, requests))

    def _edit(self, request: EditRequest) -> EditResult:
        answer = self._ask("/v1/edits", _as_json(request))
        try:
            return EditResult(
                pictures=tuple(
                    images.decode(base64.b64decode(each, validate=True))
                    for each in answer["images"]
                ),
                seeds=tuple(answer["seeds"]),
                recipe=answer.get("recipe", {}),
                measures=tuple(answer.get("measures", ())),
                timings=answer.get("timings", {}),
                warnings=tuple(answer.get("warnings", ())),
                safety=tuple(map(Verdict.from_json, answer.get("safety") or ())) or None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"{self._url} did not answer with an edit") from error

    def _ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url + path, json.dumps(body).encode(), self._headers, method="POST"
        )
        try:
            with _opener.open(request, timeout=self._timeout) as response:
                answer = response.read(_LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                answer = error.read(_LARGEST_ANSWER)
                raise self._error(error.code, answer, error.headers.get("retry-after")) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise RemoteError(f"{self._url} cannot be reached: {reason}") from error
        return self._parsed(answer)

    def _parsed(self, answer: bytes) -> Mapping[str, Any]:
        try:
            parsed = json.loads(answer)
        except ValueError as error:
            raise RemoteError(f"{self._url} did not answer with JSON") from error
        if not isinstance(parsed, Mapping):
            raise RemoteError(f"{self._url} did not answer with a JSON object")
        return parsed

    def _error(self, status: int, answer: bytes, retry_after: str | None) -> OverpaintError:
        """The server's error as the same error here."""
        seconds = _seconds(retry_after)
        try:
            details = self._parsed(answer).get("error")
        except RemoteError:
            details = None  # a proxy's own page
        if not isinstance(details, Mapping):
            message = f"{self._url} answers with HTTP status {status}"
            return RemoteError(message, status=status, retry_after=seconds)
        message = f"{details.get('message', status)} (said by {self._url})"
        unknown = InvalidRequest if "field" in details else None
        kind = _kinds().get(str(details.get("code")), unknown)
        if kind is None:
            return RemoteError(message, status=status, retry_after=seconds)
        error = _error_from(kind, message, details)
        error.retry_after = seconds if seconds is not None else error.retry_after
        return error


def _kinds() -> dict[str, type[OverpaintError]]:
    """The errors that a server may report of an edit, by their code."""
    classes = (each for each in vars(errors).values() if isinstance(each, type))
    return {each.code: each for each in classes if issubclass(each, OverpaintError)}


def _error_from(
    kind: type[OverpaintError], message: str, details: Mapping[str, Any]
) -> OverpaintError:
    if issubclass(kind, InvalidRequest):
        return kind(message, field=str(details.get("field", "request")))
    if issubclass(kind, errors.ContentBlocked):
        stage, category = str(details.get("stage")), str(details.get("category"))
        return kind(message, stage=stage, category=category)
    if issubclass(kind, errors.Overloaded):
        return kind(message, retry_after=_WAIT)
    return kind(message)


def _seconds(header: str | None) -> float | None:
    """What `Retry-After` says in seconds; its other form, a date, is not read."""
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A named server answers itself; redirects to other servers are not followed."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _as_json(request: EditRequest) -> dict[str, Any]:
    """The request as the native API takes it; what was not given is left out."""
    values = {part: getattr(request, part.name) for part in PARTS}
    return {
        part.name: _plain(part, value)
        for part, value in values.items()
        if part.required or value != part.default
    }


def _plain(part: Part, value: Any) -> Any:
    if part.kind == "pictures":
        return [_encoded(each) for each in value]
    if part.is_visual:
        return _encoded(value)
    if isinstance(value, Borders):
        return value.as_json()
    return dict(value) if part.kind == "options" else value


def _encoded(image: Picture | Image.Image) -> str:
    picture = image if isinstance(image, Picture) else Picture.from_pil(image)
    return base64.b64encode(images.encode(picture)).decode("ascii")

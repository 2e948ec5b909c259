"""Edits on an Overpaint server, for machines without a GPU: the native API, `POST /v1/edits`."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from overpaint.core import errors, images
from overpaint.core.errors import InvalidRequest, OverpaintError
from overpaint.core.images import Picture
from overpaint.core.safety import Verdict
from overpaint.core.types import EditRequest, EditResult

if TYPE_CHECKING:
    from PIL import Image

    from overpaint.apps.settings import RemoteSettings

_AT_ONCE = 8
"""Requests under way together: the server mixes their steps."""

_LARGEST_ANSWER = 512 * 2**20


class RemoteError(OverpaintError):
    """The server cannot be reached, or answers with something else than an edit."""

    code = "remote_error"


class Server:
    """An Overpaint server.

    Args:
        url: `http://machine:8000`.
        settings: the timeout, and the key, which is sent only to the URL that it is set for.
    """

    def __init__(self, url: str, settings: RemoteSettings) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"'{url}' is not an http:// or https:// URL", field="server")
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
                timings=answer.get("timings", {}),
                warnings=tuple(answer.get("warnings", ())),
                safety=tuple(map(Verdict.from_json, answer.get("safety") or ())) or None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"{self._url} answers with something else than an edit") from error

    def _ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url + path, json.dumps(body).encode(), self._headers, method="POST"
        )
        try:
            with _opener.open(request, timeout=self._timeout) as response:
                answer = response.read(_LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                self._raise_told(error.code, error.read(_LARGEST_ANSWER))
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise RemoteError(f"{self._url} cannot be reached: {reason}") from error
        return self._parsed(answer)

    def _parsed(self, answer: bytes) -> Mapping[str, Any]:
        try:
            parsed = json.loads(answer)
        except ValueError as error:
            raise RemoteError(f"{self._url} answers with something else than JSON") from error
        if not isinstance(parsed, Mapping):
            raise RemoteError(f"{self._url} answers with something else than an object")
        return parsed

    def _raise_told(self, status: int, answer: bytes) -> NoReturn:
        """The server's error as the same error here."""
        told = self._parsed(answer).get("error")
        if not isinstance(told, Mapping):
            raise RemoteError(f"{self._url} answers with HTTP status {status}")
        message = f"{told.get('message', status)} (said by {self._url})"
        if told.get("code") == errors.ContentBlocked.code:
            raise errors.ContentBlocked(
                message, stage=str(told.get("stage")), category=str(told.get("category"))
            )
        if "field" in told:
            kinds: dict[str, type[InvalidRequest]] = {
                kind.code: kind for kind in InvalidRequest.__subclasses__()
            }
            kind = kinds.get(str(told.get("code")), InvalidRequest)
            raise kind(message, field=str(told["field"]))
        raise RemoteError(message)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A named server answers itself; whoever it points to was not named."""

    def redirect_request(self, *args: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects)


def _as_json(request: EditRequest) -> dict[str, Any]:
    """The request as the native API takes it; what was not given is left out."""
    optional = {
        "model": request.model,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "mask": _encoded_plain(request.mask),
        "control": _encoded_plain(request.control),
        "copy_from": _encoded_plain(request.copy_from),
        "not_from": _encoded_plain(request.not_from),
        "references": [_encoded_plain(each) for each in request.references] or None,
    }
    return {
        "image": _encoded(request.image),
        "prompt": request.prompt,
        "num_images": request.num_images,
        "options": dict(request.options),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _encoded_plain(image: Image.Image | None) -> str | None:
    return None if image is None else _encoded(Picture.from_pil(image))


def _encoded(picture: Picture) -> str:
    return base64.b64encode(images.encode(picture)).decode("ascii")

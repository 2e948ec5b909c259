"""Azure AI Content Safety as a checker of texts and pictures, through its SDK.

The service takes 10,000 characters and pictures of 50 to 2048 pixels a side, 4 MB at most: longer
texts go in pieces that overlap, pictures as a JPEG copy of a size that fits. An answer that lacks
the severity of a category counts as none.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from overpaint.core.errors import InvalidSettings, SafetyUnavailable
from overpaint.core.safety import Category

FIELD = "safety.azure"

LONGEST_TEXT = 10_000
OVERLAP = 500
"""Characters that two pieces share, so that no sentence is seen in halves alone."""

SMALLEST_SIDE, LARGEST_SIDE = 50, 2048
LARGEST_FILE = 4 * 2**20
LISTED = 6
"""Severity of what a blocklist of the service has."""

FIRST_WAIT = 0.5
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_CATEGORIES: dict[str, Category] = {
    "Hate": "hate",
    "SelfHarm": "self_harm",
    "Sexual": "sexual",
    "Violence": "violence",
}


class ContentSafety:
    """The service, asked until it answers or the deadline is over.

    Args:
        endpoint: `https://NAME.cognitiveservices.azure.com`.
        key: of the resource; None = Entra ID.
        client_id: of a user-assigned managed identity, for Entra ID.
        timeout_s: seconds that one check may take, all attempts together.

    Raises:
        InvalidSettings: the SDK is not installed, or the endpoint is none.
    """

    def __init__(
        self, endpoint: str, *, key: str | None, client_id: str | None, timeout_s: float
    ) -> None:
        try:
            from azure.ai.contentsafety import ContentSafetyClient
        except ImportError as error:
            raise InvalidSettings(
                "Azure's SDK is not installed: pip install 'overpaint[azure]'", field=FIELD
            ) from error
        self._timeout = timeout_s
        self._client = ContentSafetyClient(
            endpoint, _credential(key, client_id), retry_total=0, logging_enable=False
        )

    def ask(self, method: str, options: Any) -> Any:
        """The service's answer.

        Raises:
            SafetyUnavailable: there is none within the time.
        """
        call: Callable[..., Any] = getattr(self._client, method)
        end, wait = time.monotonic() + self._timeout, FIRST_WAIT
        while True:
            left = max(0.05, end - time.monotonic())
            status, asked_wait = self._attempt(call, options, left)
            if not isinstance(status, int | str):
                return status
            wait = min(2 * wait, 8.0) if asked_wait is None else asked_wait
            transient = status in _TRANSIENT or isinstance(status, str)
            if not transient or time.monotonic() + wait >= end:
                raise SafetyUnavailable(
                    f"Azure AI Content Safety gives no answer ({status}), so the content was "
                    "refused; try again later"
                )
            time.sleep(wait)

    @staticmethod
    def _attempt(
        call: Callable[..., Any], options: Any, seconds: float
    ) -> tuple[Any, float | None]:
        """The answer; or its HTTP status or fault, and how long to wait if the service says so."""
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            return call(options, connection_timeout=seconds, read_timeout=seconds), None
        except HttpResponseError as error:
            header = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
            return error.status_code or "no status", float(header) if header.isdecimal() else None
        except AzureError as error:
            return type(error).__name__, None


class AzureText:
    """Checks texts.

    Args:
        service: asked for each piece.
        blocklists: names of blocklists of the resource.
    """

    name = "azure text"

    def __init__(self, service: ContentSafety, blocklists: Sequence[str] = ()) -> None:
        self._service = service
        self._blocklists = list(blocklists)

    def check(self, content: str) -> Mapping[Category, int]:
        """The worst severities of all pieces."""
        from azure.ai.contentsafety.models import AnalyzeTextOptions

        worst: dict[Category, int] = {}
        for piece in _pieces(content):
            options = AnalyzeTextOptions(text=piece, blocklist_names=self._blocklists or None)
            answer = self._service.ask("analyze_text", options)
            severities = _severities(answer)
            if self._blocklists:
                severities["blocklist"] = LISTED if answer.blocklists_match else 0
            for category, severity in severities.items():
                worst[category] = max(severity, worst.get(category, 0))
        return worst


class AzureImages:
    """Checks pictures.

    Args:
        service: asked for each.
    """

    name = "azure images"

    def __init__(self, service: ContentSafety) -> None:
        self._service = service

    def check(self, content: Image.Image) -> Mapping[Category, int]:
        """Its severities."""
        from azure.ai.contentsafety.models import AnalyzeImageOptions, ImageData

        options = AnalyzeImageOptions(image=ImageData(content=_fitting(content)))
        return _severities(self._service.ask("analyze_image", options))


def _credential(key: str | None, client_id: str | None) -> Any:
    from azure.core.credentials import AzureKeyCredential

    if key is not None:
        return AzureKeyCredential(key)
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(managed_identity_client_id=client_id)


def _severities(answer: Any) -> dict[Category, int]:
    severities = {
        _CATEGORIES[str(each.category)]: each.severity for each in answer.categories_analysis
    }
    if set(severities) != set(_CATEGORIES.values()):
        raise ValueError("the answer leaves categories out")
    return severities


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while True:
        yield text[start : start + LONGEST_TEXT]
        if start + LONGEST_TEXT >= len(text):
            return
        start += LONGEST_TEXT - OVERLAP


def _fitting(image: Image.Image) -> bytes:
    """A JPEG copy within the service's limits."""
    scale = min(1.0, LARGEST_SIDE / max(image.size))
    width, height = (max(SMALLEST_SIDE, round(side * scale)) for side in image.size)
    small = image.convert("RGB")
    if small.size != (width, height):
        small = small.resize((width, height), Image.Resampling.LANCZOS)
    for quality in (95, 80, 60):
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality)
        if file.tell() <= LARGEST_FILE:
            break
    return file.getvalue()

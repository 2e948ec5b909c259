"""Content credentials (C2PA) of a file: what its signed manifests say, and whether they hold.

Nothing is fetched: no remote manifests, no revocation lists.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from overpaint.core.errors import InvalidImage, InvalidSettings
from overpaint.core.imaging.codecs.reading import has_credentials

if TYPE_CHECKING:
    from overpaint.core.imaging.codecs.formats import FileFormat

DEEPEST_CHAIN = 64

State = Literal["trusted", "valid", "invalid"]
"""'valid' = intact, but signed by somebody who is not known here."""

MIME: dict[FileFormat, str] = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
}

OFFLINE: Mapping[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""Settings of the library."""


@dataclass(frozen=True)
class Credentials:
    """What a file's credentials say.

    Attributes:
        state: of the file and its newest manifest.
        problems: codes of C2PA for what does not hold.
        manifest: the newest one: `signer`, `generator`, `actions`, and `ingredients`, each with
            `title`, `problems` and its own `manifest` (None = it has none).
    """

    state: State
    problems: tuple[str, ...]
    manifest: Mapping[str, Any]


def read(
    encoded: bytes,
    format: FileFormat,  # noqa: A002 - PIL's word for it
    anchors: bytes | None = None,
) -> Credentials | None:
    """A file's credentials; None = it has none.

    Args:
        encoded: the file.
        format: of the file.
        anchors: certificates in PEM of those whose signatures are trusted.

    Raises:
        InvalidSettings: the library is not installed, or the anchors are not certificates.
        InvalidImage: the credentials are damaged beyond reading.
    """
    if not has_credentials(encoded):
        return None
    c2pa = library()
    try:
        context = c2pa.Context.from_dict({**OFFLINE, **trusting(anchors)})
        with c2pa.Reader(MIME[format], io.BytesIO(encoded), context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        raise InvalidImage(
            f"the content credentials in it cannot be read: {error}", field="file"
        ) from error
    problems = _problems(report.get("validation_results") or {})
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    manifests = report.get("manifests") or {}
    newest = str(report.get("active_manifest"))
    return Credentials(
        state=states.get(str(report.get("validation_state")), "invalid"),
        problems=problems,
        manifest=_summary(manifests, newest, DEEPEST_CHAIN),
    )


def _summary(manifests: Mapping[str, Any], label: str, depth: int) -> dict[str, Any]:
    manifest = manifests.get(label) or {}
    signature = manifest.get("signature_info") or {}
    return {
        "signer": signature.get("common_name") or signature.get("issuer"),
        "organization": signature.get("issuer"),
        "generator": [
            " ".join(filter(None, (each.get("name"), each.get("version"))))
            for each in manifest.get("claim_generator_info") or ()
        ],
        "actions": [
            _action(each)
            for assertion in manifest.get("assertions") or ()
            if str(assertion.get("label")).startswith("c2pa.actions")
            for each in assertion["data"]["actions"]
        ],
        "ingredients": [
            {
                "title": each.get("title"),
                "relationship": each.get("relationship"),
                "problems": list(_problems(each.get("validation_results") or {})),
                "manifest": _summary(manifests, each["active_manifest"], depth - 1)
                if depth and each.get("active_manifest") in manifests
                else None,
            }
            for each in manifest.get("ingredients") or ()
        ],
    }


def _action(action: Mapping[str, Any]) -> dict[str, Any]:
    parameters = action.get("parameters") or {}
    source_type = action.get("digitalSourceType")
    return {
        "action": action.get("action"),
        "digital_source_type": source_type and str(source_type).rsplit("/", 1)[-1],
        # The links between the file's own boxes say nothing to people.
        "parameters": {k: v for k, v in parameters.items() if not k.startswith("ingredient")},
    }


def _problems(results: Mapping[str, Any]) -> tuple[str, ...]:
    failures = (results.get("activeManifest") or {}).get("failure") or ()
    return tuple(dict.fromkeys(str(each.get("code")) for each in failures))


def trusting(anchors: bytes | None) -> dict[str, Any]:
    """Settings of the library that trust those whose certificates these are, in PEM."""
    if anchors is None:
        return {}
    return {"trust": {"trust_anchors": anchors.decode("ascii", "replace")}}


def library() -> Any:
    """The library for C2PA, which comes with an extra.

    Raises:
        InvalidSettings: it is not installed.
    """
    try:
        import c2pa
    except ImportError as error:
        raise InvalidSettings(
            "content credentials need another package: pip install 'overpaint[c2pa]'",
            field="provenance",
        ) from error
    return c2pa

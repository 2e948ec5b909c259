"""Signing of results with content credentials (C2PA).

Signing is the last thing that happens to a file: `images.encode` asks a picture's `Seal` for it.
The input is an ingredient, with the credentials that it came with, so an edit of an edit has the
whole chain. No thumbnails are made: one of the input would show what an edit removed. No time stamp
is requested.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from overpaint.core.errors import InvalidSettings
from overpaint.provenance.credentials import MIME, OFFLINE, library, trusting

if TYPE_CHECKING:
    from overpaint.core.imaging.codecs.formats import FileFormat
    from overpaint.core.imaging.codecs.writing import Format

CERTIFICATE = "provenance.certificate"
KEY = "provenance.key"

INPUT = "input"

LARGEST_PARENT = 32 * 2**20
"""Bytes of an input's file whose credentials are handed on."""

_SETTINGS = {**OFFLINE, "builder": {"intent": "edit", "thumbnail": {"enabled": False}}}
_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_CURVES = {256: "ES256", 384: "ES384", 521: "ES512"}


@dataclass(frozen=True)
class Signer:
    """The signer of content credentials.

    Attributes:
        certificate: chain in PEM, the signer's own first.
        key: its private key in PEM (PKCS 8).
        algorithm: as C2PA calls it: 'ES256', 'ES384', 'ES512', 'PS256' or 'ED25519'.
        anchors: certificates in PEM of those whose signatures count as trusted in inputs.
    """

    certificate: bytes
    key: bytes
    algorithm: str
    anchors: bytes | None = None

    def __repr__(self) -> str:
        return f"Signer({self.algorithm})"


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The credentials that are signed into a picture's file when it is written.

    Attributes:
        signer: who signs.
        tool: name and version of the program.
        source_type: term of IPTC's vocabulary for the edit.
        parameters: of the edit, as plain data.
        parent: the input's file where it has credentials of its own.
    """

    signer: Signer
    tool: tuple[str, str]
    source_type: str
    parameters: Mapping[str, Any]
    parent: tuple[bytes, FileFormat] | None = None

    def sign(self, encoded: bytes, format: Format) -> bytes:  # noqa: A002 - PIL's word for it
        """The file with its manifest.

        Raises:
            InvalidSettings: certificate and key do not sign, or no longer do.
        """
        c2pa = library()
        signed = io.BytesIO()
        try:
            with self._builder() as builder, _c2pa_signer(self.signer) as signer:
                builder.sign(signer, MIME[format], io.BytesIO(encoded), signed)
        except c2pa.C2paError as error:
            raise InvalidSettings(
                f"nothing can be signed with it: {error}", field=CERTIFICATE
            ) from error
        return signed.getvalue()

    def _builder(self) -> Any:
        if self.parent is None:
            return self._new_builder(self._manifest(INPUT))
        file, kind = self.parent
        if len(file) > LARGEST_PARENT:
            return self._new_builder(
                self._manifest(f"{INPUT}, whose credentials are too large to keep")
            )
        builder = self._new_builder(self._manifest())
        try:
            builder.add_ingredient(_ingredient(INPUT), MIME[kind], io.BytesIO(file))
        except library().C2paError:
            # Only their presence can still be stated.
            builder.close()
            return self._new_builder(self._manifest(f"{INPUT}, whose credentials cannot be read"))
        return builder

    def _new_builder(self, manifest: Mapping[str, Any]) -> Any:
        c2pa = library()
        context = c2pa.Context.from_dict({**_SETTINGS, **trusting(self.signer.anchors)})
        return c2pa.Builder(dict(manifest), context)

    def _manifest(self, ingredient: str | None = None) -> dict[str, Any]:
        name, version = self.tool
        edited = {
            "action": "c2pa.edited",
            "digitalSourceType": _VOCABULARY + self.source_type,
            "softwareAgent": {"name": name, "version": version},
            "parameters": dict(self.parameters),
        }
        return {
            "claim_generator_info": [{"name": name, "version": version}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [edited]}}],
            "ingredients": [] if ingredient is None else [_ingredient(ingredient)],
        }


def load_signer(certificate: Path, key: Path, trust: Path | None = None) -> Signer:
    """The signer of two PEM files, tried once.

    Args:
        certificate: chain, the signer's own first.
        key: its private key.
        trust: certificates of those whose signatures count as trusted in inputs.

    Raises:
        InvalidSettings: one cannot be read, they do not belong together, the certificate is over,
            or of a kind that C2PA does not allow; or the library is not installed.
    """
    library()
    chain, secret = (_file(each) for each in (certificate, key))
    anchors = None if trust is None else _file(trust)
    signer = Signer(chain, secret, _algorithm(secret), anchors)
    blank = Seal(signer=signer, tool=("-", "-"), source_type="humanEdits", parameters={})
    blank.sign(_pixel(), "PNG")
    return signer


def _c2pa_signer(signer: Signer) -> Any:
    c2pa = library()
    algorithm = c2pa.C2paSigningAlg[signer.algorithm]
    info = c2pa.C2paSignerInfo(algorithm, signer.certificate, signer.key, None)
    return c2pa.Signer.from_info(info)


def _ingredient(title: str) -> dict[str, str]:
    return {"title": title, "relationship": "parentOf"}


def _algorithm(key: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private_key = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise InvalidSettings(
            "this is not a private key in PEM without a password", field=KEY
        ) from error
    if isinstance(private_key, ec.EllipticCurvePrivateKey) and private_key.key_size in _CURVES:
        return _CURVES[private_key.key_size]
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    if isinstance(private_key, rsa.RSAPrivateKey):
        return "PS256"
    raise InvalidSettings(
        "C2PA signs with keys on the curves P-256, P-384 and P-521, Ed25519 and RSA",
        field=KEY,
    )


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(
            f"{path} cannot be read: {error.strerror}", field=CERTIFICATE
        ) from error


def _pixel() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()

"""A certificate of one's own for content credentials: for trying them, and inside an organization.

The authority's key is thrown away once it has signed the one certificate, so that nothing else can
be signed in its name.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from overpaint.core.errors import InvalidRequest, InvalidSettings, OutputError
from overpaint.core.files import atomic_write

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

VALID = timedelta(days=3 * 365)
LONGEST_NAME = 64
"""Characters of a name in a certificate (RFC 5280, ub-common-name)."""


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Made(NamedTuple):
    """Files in PEM, as `[provenance]` names them."""

    certificate: Path
    key: Path
    trust: Path


def make(folder: Path, name: str, *, force: bool = False) -> Made:
    """Make an authority and a certificate under it.

    Args:
        folder: for the three files; made if it is not there, for its owner alone.
        name: whose signatures they will be.
        force: write over what is there.

    Raises:
        InvalidRequest: the name is empty or too long.
        InvalidSettings: the library is not installed.
        OutputError: the files are there already, or cannot be written.
    """
    if not 1 <= len(name.strip()) <= LONGEST_NAME:
        raise InvalidRequest(f"give a name of 1 to {LONGEST_NAME} characters", field="name")
    files = Made(*(folder / f"{each}.pem" for each in Made._fields))
    there = [each for each in files if each.exists()]
    if there and not force:
        raise OutputError(
            f"{there[0]} is there already; what was signed with it would no longer be trusted: "
            "name another folder, or add --force",
            field="folder",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}", field="folder") from error
    authority, certificate, key = _pair(name.strip())
    _write_private(files.key, key)
    atomic_write(files.certificate, certificate + authority, field="folder")
    atomic_write(files.trust, authority, field="folder")
    return files


def _write_private(path: Path, data: bytes) -> None:
    """Readable for its owner alone from the first byte on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)


def _pair(name: str) -> tuple[bytes, bytes, bytes]:
    """The authority's certificate, one under it, and the latter's key."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise InvalidSettings(
            "certificates need another package: pip install 'overpaint[c2pa]'", field="provenance"
        ) from error
    above, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _signed(f"{name[:50]} authority", name, above.public_key(), above, ca=True)
    certificate = _signed(name, name, own.public_key(), above, ca=False, issuer=authority.subject)
    pem = serialization.Encoding.PEM
    return (
        authority.public_bytes(pem),
        certificate.public_bytes(pem),
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _signed(
    name: str,
    organization: str,
    key: EllipticCurvePublicKey,
    signer: EllipticCurvePrivateKey,
    *,
    ca: bool,
    issuer: x509.Name | None = None,
) -> x509.Certificate:
    """A certificate as C2PA asks for it (C2PA 2.2, 14.5.1)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now = datetime.now(UTC)
    usage = dict.fromkeys(_USAGES, False) | (
        {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca, 0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if not ca:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signer, hashes.SHA256())

"""Content credentials, as c2pa's own reader sees them, in files that other programs can read."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import c2pa
import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import InvalidImage, InvalidRequest, InvalidSettings, OutputError
from overpaint.core.imaging import images
from overpaint.core.imaging.codecs.reading import has_credentials
from overpaint.core.imaging.images import Picture
from overpaint.provenance import certificates, credentials, sealing
from overpaint.provenance.sealing import Seal
from tests.conftest import picture

FORMATS = ("PNG", "JPEG", "WEBP")
EDITED = "compositeWithTrainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("pem") / "own", "Jo's studio")


@pytest.fixture(scope="module")
def signer(made):
    return sealing.load_signer(*made)


def seal(signer, **more):
    given = {"tool": ("Overpaint", "1"), "source_type": EDITED, "parameters": {"overpaint.n": "x"}}
    return Seal(signer=signer, **{**given, **more})


def sealed(signer, name="PNG", **more):
    return images.encode(Picture(picture(64, 48), seal=seal(signer, **more)), name)


def official(encoded, name, anchors=None):
    """What c2pa's reader says, set up by itself."""
    settings = {"verify": {"remote_manifest_fetch": False}}
    if anchors:
        settings["trust"] = {"trust_anchors": anchors.read_text()}
    context = c2pa.Context.from_dict(settings)
    with c2pa.Reader(f"image/{name.lower()}", io.BytesIO(encoded), context=context) as reader:
        return json.loads(reader.json())


@pytest.mark.parametrize("name", FORMATS)
class TestFiles:
    def test_the_official_reader_finds_the_manifest(self, signer, made, name):
        told = official(sealed(signer, name), name)
        assert told["validation_state"] == "Valid"
        manifest = told["manifests"][told["active_manifest"]]
        opened, edited = manifest["assertions"][0]["data"]["actions"]
        assert opened["action"] == "c2pa.opened"
        assert edited["action"] == "c2pa.edited"
        assert edited["digitalSourceType"].endswith(f"/{EDITED}")
        assert edited["parameters"] == {"overpaint.n": "x"}
        assert [each["relationship"] for each in manifest["ingredients"]] == ["parentOf"]
        assert official(sealed(signer, name), name, made.trust)["validation_state"] == "Trusted"

    def test_pixels_and_metadata_stay(self, signer, name):
        plain = Picture(picture(64, 48), xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
        before = images.decode(images.encode(plain, name))
        after = images.decode(images.encode(replace(plain, seal=seal(signer)), name))
        assert after.sha256 == before.sha256
        assert after.xmp == before.xmp == plain.xmp

    def test_a_changed_file_is_found_out(self, signer, made, name):
        encoded = bytearray(sealed(signer, name))
        pixels = {"PNG": b"IDAT", "JPEG": b"\xff\xda", "WEBP": b"VP8L"}[name]
        place = encoded.rindex(pixels) + 50
        encoded[place] ^= 1
        anchors = made.trust.read_bytes()
        found = credentials.read(bytes(encoded), name, anchors)
        assert found.state == "invalid"
        assert any("mismatch" in each for each in found.problems)

    def test_an_edit_of_an_edit_keeps_the_chain(self, signer, made, name):
        encoded, kind = sealed(signer, name, parameters={"overpaint.turn": 0}), name
        for turn in (1, 2):
            parent = (encoded, kind)
            kind = FORMATS[(FORMATS.index(kind) + 1) % 3]
            encoded = sealed(signer, kind, parent=parent, parameters={"overpaint.turn": turn})
        assert len(official(encoded, kind)["manifests"]) == 3
        found = credentials.read(encoded, kind, made.trust.read_bytes())
        assert (found.state, found.problems) == ("trusted", ())
        turns, manifest = [], found.manifest
        while manifest is not None:
            turns.append(manifest["actions"][-1]["parameters"]["overpaint.turn"])
            (ingredient,) = manifest["ingredients"]
            assert ingredient["problems"] == []
            manifest = ingredient["manifest"]
        assert turns == [2, 1, 0]

    def test_what_became_of_an_input_that_was_changed_is_kept(self, signer, made, name):
        encoded = bytearray(sealed(signer, name))
        at = encoded.index(b"overpaint.n")
        encoded[at : at + 9] = b"somewhere"
        found = credentials.read(
            sealed(signer, parent=(bytes(encoded), name)), "PNG", made.trust.read_bytes()
        )
        (ingredient,) = found.manifest["ingredients"]
        assert found.state == "trusted"
        assert any("mismatch" in each for each in ingredient["problems"])


def noise(width=256, height=256):
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_no_thumbnail_shows_what_an_edit_removed(signer):
    """A thumbnail of noise would be large."""
    blank = Picture(Image.new("RGB", (256, 256)))
    plain = images.encode(blank)
    parent = (images.encode(Picture(noise(), seal=seal(signer))), "PNG")
    assert len(images.encode(replace(blank, seal=seal(signer)))) - len(plain) < 6_000
    signed = images.encode(replace(blank, seal=seal(signer, parent=parent)))
    assert len(signed) - len(plain) < 12_000
    assert b"thumbnail" not in signed


@pytest.mark.parametrize("damage", [slice(300, 308), slice(1000, 1008)])
def test_damaged_credentials_of_an_input_are_named(signer, damage):
    encoded = bytearray(sealed(signer))
    start = encoded.index(b"jumb")
    encoded[start + 40 + damage.start : start + 40 + damage.stop] = b"\xff" * (
        damage.stop - damage.start
    )
    found = credentials.read(sealed(signer, parent=(bytes(encoded), "PNG")), "PNG")
    (ingredient,) = found.manifest["ingredients"]
    assert ingredient["title"] == "input, whose credentials cannot be read"
    with pytest.raises(InvalidImage, match="cannot be read"):
        credentials.read(bytes(encoded), "PNG")


def test_credentials_of_an_input_may_not_be_endless(signer, monkeypatch):
    monkeypatch.setattr(sealing, "LARGEST_PARENT", 100)
    found = credentials.read(sealed(signer, parent=(sealed(signer), "PNG")), "PNG")
    assert found.manifest["ingredients"][0]["title"].endswith("too large to keep")


def test_files_without_credentials():
    encoded = images.encode(Picture(picture(8, 8)))
    assert credentials.read(encoded, "PNG") is None
    assert images.decode(encoded).signed is None


def test_other_pixels_have_no_signature(signer):
    decoded = images.decode(sealed(signer))
    assert has_credentials(decoded.signed)
    assert decoded.with_rgb(picture(64, 48, seed=1)).signed is None
    assert Picture(picture(8, 8), seal=seal(signer)).with_rgb(picture(8, 8)).seal is None


class TestCertificates:
    def test_the_key_is_for_its_owner_alone(self, made):
        assert made.key.stat().st_mode & 0o077 == 0
        assert made.key.parent.stat().st_mode & 0o077 == 0
        assert "PRIVATE" not in made.trust.read_text() + made.certificate.read_text()

    def test_nothing_is_written_over_unasked(self, made, tmp_path):
        with pytest.raises(OutputError, match="--force"):
            certificates.make(made.key.parent, "Jo")
        first = certificates.make(tmp_path, "Jo").key.read_bytes()
        assert certificates.make(tmp_path, "Jo", force=True).key.read_bytes() != first

    @pytest.mark.parametrize("name", ["", " ", "x" * 65])
    def test_names(self, tmp_path, name):
        with pytest.raises(InvalidRequest):
            certificates.make(tmp_path, name)

    def test_a_key_of_another_certificate(self, made, tmp_path):
        other = certificates.make(tmp_path, "Other")
        with pytest.raises(InvalidSettings, match="nothing can be signed"):
            sealing.load_signer(made.certificate, other.key)

    def test_a_certificate_that_is_over(self, tmp_path, monkeypatch):
        monkeypatch.setattr(certificates, "VALID", certificates.timedelta(minutes=-1))
        late = certificates.make(tmp_path, "Late")
        with pytest.raises(InvalidSettings, match="nothing can be signed"):
            sealing.load_signer(late.certificate, late.key)

    def test_files_that_are_none(self, made, tmp_path):
        with pytest.raises(InvalidSettings, match="cannot be read"):
            sealing.load_signer(tmp_path / "none.pem", made.key)
        (tmp_path / "odd.pem").write_text("words")
        with pytest.raises(InvalidSettings, match="not a private key"):
            sealing.load_signer(made.certificate, tmp_path / "odd.pem")
        with pytest.raises(InvalidSettings, match="nothing can be signed"):
            sealing.load_signer(tmp_path / "odd.pem", made.key)

    @pytest.mark.parametrize("kind", ["rsa", "p384", "p521", "ed25519"])
    def test_kinds_of_keys(self, tmp_path, monkeypatch, kind):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

        key = {
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
        }[kind]()
        above = ec.generate_private_key(ec.SECP256R1())
        authority = certificates._signed("A", "A", above.public_key(), above, ca=True)
        own = certificates._signed(
            "B", "B", key.public_key(), above, ca=False, issuer=authority.subject
        )
        pem = serialization.Encoding.PEM
        (tmp_path / "c.pem").write_bytes(own.public_bytes(pem) + authority.public_bytes(pem))
        (tmp_path / "k.pem").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        signer = sealing.load_signer(tmp_path / "c.pem", tmp_path / "k.pem")
        assert official(sealed(signer), "PNG")["validation_state"] == "Valid"

    def test_without_the_library(self, made, monkeypatch):
        monkeypatch.setitem(sys.modules, "c2pa", None)
        with pytest.raises(InvalidSettings, match=r"overpaint\[c2pa\]"):
            sealing.load_signer(*made)


def test_secrets_are_not_shown(signer):
    assert "PRIVATE" not in repr(signer) + repr(seal(signer))

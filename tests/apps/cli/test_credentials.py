"""Signed results, from the command line to the file and back, and over an edit of an edit."""

from __future__ import annotations

import io
import json
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import c2pa
import pytest
from PIL import Image

from overpaint.apps.wiring.models import build
from overpaint.core.imaging import images
from tests.conftest import box_mask

FORMATS = ("png", "jpg", "webp")
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
EDITED = "compositeWithTrainedAlgorithmicMedia"
SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


@pytest.fixture
def signing(desk, overpaint, checkpoint_folder):
    """Settings that sign; (lines of [provenance]) adds to them."""
    table = overpaint("provenance", "init", "pem", "--name", "Jo's studio").out.decode()
    lines = ['device = "cpu"', 'dtype = "float32"', "[models.my-sd2]", 'family = "sd2"']
    lines += [f"folder = '{checkpoint_folder('sd2')}'", table]

    def write(*more: str) -> None:
        (desk / "overpaint.toml").write_text("\n".join([*lines, *more]))

    write()
    return write


def inpaint(overpaint, given: str, out: str):
    asked = (given, "a red kite", "--mask", "mask.png", "--seed", 7, "-o", out)
    ran = overpaint("inpaint", *asked, "--model", "my-sd2", "-O", "num_inference_steps=2")
    assert ran.code == 0, ran.err


def reader(file: str, trust: str) -> dict:
    """c2pa's own reader, set up by itself, of a file on the disk."""
    context = c2pa.Context.from_dict({"trust": {"trust_anchors": Path(trust).read_text()}})
    kind, stream = MIME[file.rpartition(".")[2]], io.BytesIO(Path(file).read_bytes())
    with c2pa.Reader(kind, stream, context=context) as found:
        return json.loads(found.json())


@pytest.mark.parametrize("suffix", FORMATS)
def test_results_are_signed_last(overpaint, signing, suffix):
    signing("recipe = true")
    inpaint(overpaint, "photo.png", f"out.{suffix}")
    told = reader(f"out.{suffix}", "pem/trust.pem")
    assert told["validation_state"] == "Trusted"
    manifest = told["manifests"][told["active_manifest"]]
    opened, edited = manifest["assertions"][0]["data"]["actions"]
    assert (opened["action"], edited["action"]) == ("c2pa.opened", "c2pa.edited")
    assert edited["digitalSourceType"].endswith(f"/{EDITED}")
    assert edited["parameters"]["overpaint.name"] == "my-sd2"
    assert len(edited["parameters"]["overpaint.revision"]) == 16
    with Image.open(f"out.{suffix}") as image:
        image.load()
        root = ElementTree.fromstring(image.info["xmp"])
    assert any(each.get(SOURCE_TYPE, "").endswith(f"/{EDITED}") for each in root.iter())
    assert b"kite" not in Path(f"out.{suffix}").read_bytes()


def test_prompts_only_where_asked_for(overpaint, signing):
    signing("prompt = true")
    inpaint(overpaint, "photo.png", "out.png")
    actions = overpaint("verify", "out.png", "--json").json["credentials"]["manifest"]["actions"]
    assert actions[-1]["parameters"]["overpaint.prompt"] == "a red kite"


def test_an_edit_of_an_edit_keeps_the_chain(overpaint, signing):
    inpaint(overpaint, "photo.png", "first.jpg")
    inpaint(overpaint, "first.jpg", "second.webp")
    assert overpaint("erase", "second.webp", "--mask", "mask.png", "-o", "third.png").code == 0
    assert len(reader("third.png", "pem/trust.pem")["manifests"]) == 3
    found = overpaint("verify", "third.png", "--json").json["credentials"]
    assert (found["state"], found["problems"]) == ("trusted", [])
    kinds, manifest = [], found["manifest"]
    while manifest is not None:
        kinds.append(manifest["actions"][-1]["digital_source_type"])
        manifest = manifest["ingredients"][0]["manifest"]
    assert kinds == ["humanEdits", EDITED, EDITED]
    text = overpaint("verify", "third.png").out.decode()
    assert "intact, signed by somebody whom you trust" in text
    assert text.count("signed by: Jo's studio") == 3
    assert text.rstrip().endswith("from: input, unsigned")


def test_results_that_never_were_files_keep_the_chain(signing):
    engine, mask = build.engine("my-sd2"), box_mask(96, 80)
    picture = images.decode("photo.png")
    for _ in range(2):
        picture = engine.edit(picture, "kite", mask=mask, num_inference_steps=1).pictures[0]
    images.save(picture, "out.png")
    assert len(reader("out.png", "pem/trust.pem")["manifests"]) == 2


def test_replay_of_a_signed_picture(overpaint, signing):
    signing("recipe = true", "prompt = true")
    inpaint(overpaint, "photo.png", "out.png")
    asked = ("out.png", "--image", "photo.png", "--mask", "mask.png", "-o", "again.png", "--json")
    assert overpaint("replay", *asked).json["same"] is True


def test_a_picture_changed_after_signing(overpaint, signing, desk):
    inpaint(overpaint, "photo.png", "out.jpg")
    encoded = bytearray((desk / "out.jpg").read_bytes())
    encoded[encoded.rindex(b"\xff\xda") + 50] ^= 1
    (desk / "bad.jpg").write_bytes(encoded)
    ran = overpaint("verify", "bad.jpg")
    assert ran.code == 1
    assert b"NOT intact: changed after it was signed" in ran.out
    assert b"assertion.dataHash.mismatch" in ran.out


def test_strangers_are_not_trusted(overpaint, signing, desk):
    inpaint(overpaint, "photo.png", "out.png")
    (desk / "overpaint.toml").unlink()
    ran = overpaint("verify", "out.png")
    assert ran.code == 0
    assert b"not in your list of trusted authorities" in ran.out


def test_what_strangers_wrote_does_not_speak_to_the_terminal(overpaint, signing, desk):
    signing("prompt = true")
    asked = ("photo.png", "a \x1b[31m kite", "--mask", "mask.png", "-o", "out.png")
    overpaint("inpaint", *asked, "--model", "my-sd2", "-O", "num_inference_steps=1")
    out = overpaint("verify", "out.png").out
    assert b"kite" in out
    assert b"\x1b" not in out


class TestSettings:
    def test_init_says_what_to_do_and_whom_it_convinces(self, overpaint, desk):
        ran = overpaint("provenance", "init", "here")
        assert "Others will not trust" in ran.err
        table = tomllib.loads(ran.out.decode())["provenance"]
        assert table["key"] == str((desk / "here" / "key.pem").absolute())
        again = overpaint("provenance", "init", "here", "--json")
        assert (again.code, again.json["error"]["code"]) == (2, "output_error")

    def test_half_a_pair(self, overpaint, desk):
        (desk / "overpaint.toml").write_text('[provenance]\nkey = "key.pem"\n')
        assert "both certificate and key" in overpaint("models").err

    def test_missing_files_are_told_before_anything_is_computed(self, overpaint, desk):
        (desk / "overpaint.toml").write_text(
            '[provenance]\nkey = "none.pem"\ncertificate = "none.pem"\n'
        )
        ran = overpaint("erase", "photo.png", "--mask", "mask.png")
        assert ran.code == 2
        assert "none.pem cannot be read" in ran.err

    def test_trust_that_is_none(self, overpaint, signing, desk):
        inpaint(overpaint, "photo.png", "out.png")
        (desk / "overpaint.toml").write_text('[provenance]\ntrust = "none.pem"\n')
        assert overpaint("verify", "out.png").code == 2


def test_files_of_others_without_the_library(overpaint, signing, monkeypatch):
    inpaint(overpaint, "photo.png", "out.png")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    ran = overpaint("verify", "out.png")
    assert ran.code == 2
    assert "overpaint[c2pa]" in ran.err

"""The bundled twins: complete, unbroken, small."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors import safe_open

from training.train.export import TWINS

ROOT = Path(str(files("overpaint"))) / "twins"


@pytest.mark.parametrize("twin", TWINS)
def test_checksums_hold(twin: str):
    folder = ROOT / twin
    listed = dict(
        reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "SHA256SUMS"
    }
    assert present == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_all_fit_into_forty_megabytes():
    size = sum(p.stat().st_size for t in TWINS for p in (ROOT / t).rglob("*") if p.is_file())
    assert size < 40e6


@pytest.mark.parametrize("twin", TWINS)
def test_weights_are_half_precision(twin: str):
    for path in (ROOT / twin).rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        assert dtypes <= {"F16", "I64"}, path


def test_flux_twins_share_autoencoder_and_text_encoders():
    for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        sums = []
        for twin in ("tiny-flex2", "tiny-kontext"):
            lines = (ROOT / twin / "SHA256SUMS").read_text().splitlines()
            sums.append({line for line in lines if f"  {part}/" in line})
        assert sums[0] == sums[1]


def test_pipelines_are_named():
    def named(twin: str) -> str:
        return str(json.loads((ROOT / twin / "model_index.json").read_text())["_class_name"])

    pipelines = ("Flex2Pipeline", "StableDiffusionInpaintPipeline", "FluxKontextPipeline")
    assert tuple(named(twin) for twin in TWINS) == pipelines

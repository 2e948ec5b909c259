"""The UNet in int8 on OpenVINO: what it gains beside bfloat16, and how far it is off.

At real size (random weights): seconds per step and the relative error of a prediction beside
torch's float32. With the trained twin `tiny-sd2`: how far its pictures are from those in float32.
Needs `pip install 'overpaint[int8]'`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

import overpaint
from benchmarks import real_size
from benchmarks.performance import peers, step
from benchmarks.performance.peers import Row
from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import build

TWIN, SIDE, PICTURES = "tiny-sd2", 64, 8


def rows(folder: Path, rounds: int) -> list[Row]:
    """Speed and error at real size, error of the twin."""
    if find_spec("nncf") is None:
        print("int8: nncf is not installed; no rows")
        return []
    checkpoint = real_size.sd2(folder / "sd2")
    native = peers.native(checkpoint)
    cache = folder / "openvino"
    half = _engine(str(checkpoint), "openvino", cache, "bfloat16")
    quantized = _engine(str(checkpoint), "openvino-int8", cache, "bfloat16")
    took = peers.seconds(lambda: quantized.model().load())
    half.model().load()
    errors = step.errors(checkpoint, [half, quantized])
    found = peers.medians(
        rounds,
        {
            "bfloat16": lambda: step.our_step(half, native),
            "int8": lambda: step.our_step(quantized, native),
        },
    )
    gate = f"relative error of the prediction {errors[1]:.3f}, bfloat16's {errors[0]:.3f}"
    work = f"sd2, {native}x{native}, one step, OpenVINO int8 (ready in {took:.0f} s)"
    peer = "our OpenVINO bfloat16"
    return [
        peers.row(work, peer, found["bfloat16"], found["int8"], gate=gate),
        _twin(cache),
    ]


def _engine(model: str, backend: str, cache: Path, dtype: str) -> overpaint.Engine:
    settings = settings_.load({}).model_copy(update={"backend": backend, "cache": cache})
    return build.engine(model, device="cpu", dtype=dtype, settings=settings)


def _twin(cache: Path) -> Row:
    """PSNR of the twin's pictures in bfloat16 and in int8 beside float32."""
    exact = _engine(TWIN, "torch", cache, "float32")
    told = []
    for backend in ("openvino", "openvino-int8"):
        engine = _engine(TWIN, backend, cache, "bfloat16")
        told.append(np.mean([_psnr(exact, engine, seed) for seed in range(PICTURES)]))
    return {
        "work": f"{TWIN}: PSNR of {PICTURES} pictures beside float32, masked part, dB",
        "peer": "our OpenVINO bfloat16",
        "peer s": f"{told[0]:.1f} dB",
        "ours s": f"{told[1]:.1f} dB",
    }


def _psnr(exact: overpaint.Engine, other: overpaint.Engine, seed: int) -> float:
    asked = {"mask": peers.mask(SIDE), "seed": seed, "num_inference_steps": 20}

    def painted(engine: overpaint.Engine) -> np.ndarray:
        image = engine.edit(peers.picture(SIDE), "a red circle", **asked).images[0]
        return np.asarray(image, dtype=float)[np.asarray(peers.mask(SIDE)) > 0]

    error = float(((painted(exact) - painted(other)) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))

"""What the groups share: the picture, the peer's pipeline, and measuring in turns."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from overpaint.checkpoints.memo import Memo

Row = dict[str, Any]

Measured = tuple[dict[str, float], dict[str, float]]
"""Seconds and gigabytes by kind."""

MASKED = 0.1
"""Share of the picture that is masked."""

PROMPT = "a red cat on a wooden table"


def picture(side: int) -> Image.Image:
    """A smooth picture of `side` pixels."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def mask(side: int, share: float = MASKED) -> Image.Image:
    """A box of that share of the picture, near its middle."""
    box = Image.new("L", (side, side))
    start, length = side // 4, round(side * share**0.5)
    box.paste(255, (start, start, start + length, start + length))
    return box


def pipeline(folder: Path, **options: Any) -> Any:
    """diffusers' pipeline of the checkpoint, without a progress bar."""
    from diffusers import StableDiffusionInpaintPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()
    loaded = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None, **options)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def native(folder: Path) -> int:
    """Side in pixels that the checkpoint's UNet was made for."""
    from diffusers import UNet2DConditionModel

    return 8 * int(UNet2DConditionModel.load_config(folder / "unet")["sample_size"])


def run(peer: Any, image: Image.Image, hole: Image.Image, steps: int, **options: Any) -> Any:
    """The peer's picture; `options` may hold height and width, else those of the picture."""
    size = {"width": image.width, "height": image.height}
    return peer(
        prompt=PROMPT,
        image=image,
        mask_image=hole,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        **{**size, **options},
    ).images[0]


def forget(engine: Any) -> None:
    """Let an engine's model forget what it has encoded."""
    engine.model().checkpoint.memo = Memo()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def plain_openvino(
    file: Path, load: Callable[[], tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]
) -> Callable[[], float]:
    """Seconds of one inference by OpenVINO in bfloat16 of a module as it is, with fixed sizes.

    Args:
        file: where the network is kept (.xml).
        load: gives the module, whose call takes tensors alone, and an example of them.
    """
    import openvino

    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(_network(*load()), file, compress_to_fp16=True)
    options = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(file, "CPU", options).create_infer_request()
    inputs = [torch.randn(list(port.shape)).numpy() for port in request.model_inputs]
    request.infer(inputs)
    return lambda: seconds(lambda: request.infer(inputs))


def _network(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    """By OpenVINO's own frontend."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)
    manager = FrontEndManager()
    frontend = manager.load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    network = frontend.convert(frontend.load(decoder))
    shapes = zip(network.inputs, example, strict=True)
    network.reshape({port: list(each.shape) for port, each in shapes})
    return network


def apart(rounds: int, kinds: Mapping[str, Callable[[], Callable[[], float]]]) -> Measured:
    """The median of what each kind measures in a process of its own, and that one's peak memory.

    Args:
        rounds: of each kind.
        kinds: make what measures; they can be pickled.

    Returns:
        Seconds, and gigabytes (10^9 bytes) with mapped files, by kind.
    """
    found, memory = {}, {}
    for kind, make in kinds.items():
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_measure, args=(theirs, rounds, kind, make)
        )
        process.start()
        theirs.close()
        found[kind], memory[kind] = ours.recv()
        process.join()
    return found, memory


def _measure(pipe: Any, rounds: int, kind: str, make: Callable[[], Callable[[], float]]) -> None:
    median = medians(rounds, {kind: make()})[kind]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"  {kind}: peak {peak:.2f} GB", flush=True)
    pipe.send((median, peak))


def medians(rounds: int, kinds: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median of what each kind measures, in turns, so that a busy moment slows all."""
    measured: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, measure in kinds.items():
            measured[kind].append(measure())
            print(f"  {kind}: {measured[kind][-1]:.3f}", flush=True)
    return {kind: statistics.median(each) for kind, each in measured.items()}


def row(
    work: str, peer: str, theirs: float, ours: float, *, asked: float | str = "", gate: str = ""
) -> Row:
    """A line of the table: how many times faster than the peer."""
    return {
        "work": work,
        "peer": peer,
        "peer s": f"{theirs:.2f}",
        "ours s": f"{ours:.2f}" if ours >= 0.1 else f"{ours:.4f}",
        "ratio": f"{theirs / ours:.2f}",
        "asked": asked,
        "gate": gate,
    }

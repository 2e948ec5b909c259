"""Inputs of a Stable Diffusion UNet in ordinary edits: samples for its quantization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overpaint.checkpoints.compute.backends import Backend
    from overpaint.checkpoints.placement import Placement
    from overpaint.diffusion.family import FamilySpec

PROMPTS = ("a photo of a red car", "a wooden table with a vase of flowers", "a blue circle")
STEPS = 4
"""Steps of each edit; each gives one sample, from pure noise to an almost finished picture."""


def samples(
    family: FamilySpec, folder: Path, placement: Placement, backend: Backend
) -> Callable[[], list[Any]]:
    """A function that edits the bundled picture with the model and gives its UNet's inputs.

    Args:
        family: of the checkpoint.
        folder: of the checkpoint.
        placement: as it will be used.
        backend: that will be calibrated; samples are taken without quantization.
    """

    def take() -> list[Any]:
        from PIL import Image

        from overpaint.checkpoints.checkpoint import Checkpoint
        from overpaint.engine.engine import Engine
        from overpaint.engine.model import Model

        checkpoint = Checkpoint(
            folder, family.components, placement, backend=replace(backend, name="openvino")
        )
        unet = checkpoint.component("unet")
        unet.samples = []
        model = Model(family.open(checkpoint), checkpoint)
        engine = Engine(lambda _: model, "calibration")
        side = 8 * unet.config.sample_size
        scene = files("overpaint") / "twins" / "scene"
        with (scene / "scene.png").open("rb") as file:
            picture = Image.open(file).convert("RGB").resize((side, side))
        mask = Image.new("L", (side, side))
        mask.paste(255, (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
        for seed, prompt in enumerate(PROMPTS):
            engine.edit(picture, prompt, mask=mask, seed=seed, num_inference_steps=STEPS)
        samples: list[Any] = unet.samples
        return samples

    return take

"""A family that follows instructions perfectly, then moves, colours and repaints the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from overpaint.core.geometry import Box, Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion.denoiser import InstructedLatent, InstructionDenoiser
from overpaint.diffusion.family import FamilySpec, Prepared
from overpaint.diffusion.options import InstructionOptions
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from tests.faults import Fault, Pixels

SPEC = FamilySpec(
    name="faulty",
    implementation="tests.faulty_family:Faulty",
    options=InstructionOptions,
    accepts={
        "prompt": "required",
        "mask": "optional",
        "negative_prompt": "optional",
        "target": "optional",
    },
)


class Faulty(InstructionDenoiser[InstructionOptions, InstructedLatent]):
    """Gives a true result with a fault. Everything after the decoding is a real family's.

    Args:
        result: (H, W, 3), the true result.
        fault: what is done to it.
        copy: what the model does to every picture, its autoencoder's noise.
    """

    denoiser = "none"

    def __init__(self, result: Pixels, fault: Fault, copy: Fault) -> None:
        super().__init__(SPEC)
        self.result, self.fault, self.copy = result, fault, copy

    def plan(self, request: EditRequest, options: InstructionOptions) -> Plan:
        size = request.image.size
        whole = Box.of_size(size)
        return Plan(size=size, window=whole, canvas=size, content=whole, output=size)

    def prepare(
        self,
        request: EditRequest,
        plan: Plan,
        options: InstructionOptions,
        seeds: Sequence[int],
    ) -> tuple[list[Prepared], list[str]]:
        return [Prepared(seed=seed, total=1) for seed in seeds], []

    def predict(self, batch: Sequence[InstructedLatent]) -> torch.Tensor:
        raise AssertionError("it has no network")

    def advance(self, batch: Sequence[Prepared]) -> None:
        for image in batch:
            image.step += 1

    def decode(self, prepared: Prepared) -> Image.Image:
        return Image.fromarray(self.fault.done_to(self.result, seed=1 + prepared.seed))

    def copied(self, request: EditRequest, plan: Plan, prepared: Prepared) -> Image.Image:
        return Image.fromarray(self.copy.done_to(np.asarray(request.image.to_srgb()), seed=0))


def engine(result: Pixels, fault: Fault, copy: Fault | None = None) -> Engine:
    """An engine whose only model gives that result with that fault."""
    return engine_of(Faulty(result, fault, Fault(noise=fault.noise) if copy is None else copy))


def engine_of(family: Faulty) -> Engine:
    """An engine with that family alone."""
    return Engine(lambda _: Model(family, record={"name": "faulty"}), "faulty")

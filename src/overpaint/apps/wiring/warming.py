"""Everything of a model that is compiled, compiled ahead of its first edits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from overpaint.apps.wiring.models import build, catalogue, families

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import ModelSpec
    from overpaint.engine.engine import Engine

STEPS = 3
"""Steps of each edit: one as it is, one to be timed, one to be recorded."""

ROUNDS = 4
"""Edits at most: each of them shows the next one what is left to compile."""


@dataclass(frozen=True)
class Report:
    """The outcome of warming.

    Attributes:
        model: its name.
        device: where it runs.
        edits: that were made.
        seconds: that all of it took.
        compiled: parts of its networks that were compiled, or taken as they were kept.
        folder: where that is kept; None = nothing was compiled.
        bytes: of the file of it.
    """

    model: str
    device: str
    edits: int
    seconds: float
    compiled: int
    folder: str | None
    bytes: int

    def __str__(self) -> str:
        if self.folder is None:
            return (
                f"{self.model} on {self.device}: no network is compiled here. On CUDA it is with "
                'triton and a C++ compiler; elsewhere set backend = "torch-compiled"'
            )
        return (
            f"{self.model} on {self.device}: {self.compiled} parts compiled in {self.seconds:.0f} "
            f"s, {self.edits} edits; {self.bytes / 1e6:.1f} MB kept in {self.folder}"
        )


def warm(model: str, settings: Settings) -> Report:
    """Make small edits with a model until nothing is left to compile.

    Args:
        model: its name, or its folder.
        settings: say what computes, and where that is kept.

    Raises:
        OverpaintError: see `build.load_model`.
    """
    from overpaint.checkpoints import compiling

    started = time.perf_counter()
    spec = catalogue.find_model(model, settings)
    engine = build.engine(model, settings=settings)
    checkpoint = engine.model().checkpoint
    compiles = checkpoint is not None and (
        checkpoint.compiles_later or checkpoint.backend.name in ("torch-compiled", "torch-float8")
    )
    if checkpoint is None or not compiles:
        return Report(spec.name, engine.device, 0, 0.0, 0, None, 0)
    compiling.BACKGROUND.patience = 0.0
    edits, before = 0, -1
    while compiling.compilations() != before and edits < ROUNDS:
        before = compiling.compilations()
        _edit(engine, spec)
        compiling.BACKGROUND.wait()
        edits += 1
    folder = checkpoint.backend.compile_cache
    assert folder is not None
    return Report(
        spec.name,
        engine.device,
        edits,
        time.perf_counter() - started,
        compiling.compilations(),
        str(folder),
        compiling.save(folder),
    )


def _edit(engine: Engine, spec: ModelSpec) -> None:
    """A small edit of the bundled picture."""
    from PIL import Image

    scene = files("overpaint") / "twins" / "scene"
    with (scene / "scene.png").open("rb") as file:
        picture = Image.open(file).convert("RGB")
    mask = Image.new("L", picture.size)
    width, height = picture.size
    mask.paste(255, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    accepted = families.find(spec.family).accepts
    extra: dict[str, Any] = {"mask": mask} if accepted.get("mask", "refused") != "refused" else {}
    engine.edit(picture, "a red circle", seed=0, num_inference_steps=STEPS, **extra)

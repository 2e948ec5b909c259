"""What the sections share: sizes, engines, edits and how they are measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.performance import peers
from benchmarks.performance.proof import models
from benchmarks.performance.proof.clock import Clock
from benchmarks.performance.proof.journal import Journal, Row, goal
from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import build
from overpaint.checkpoints import compiling
from overpaint.core.models import BackendName
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.edit import Edit
from overpaint.engine.engine import Engine
from overpaint.engine.intake import as_picture

PLAIN = {"compile": "off", "record": "off"}
"""Settings that leave steps as torch runs them."""

RECORDED = {"compile": "off", "record": "auto"}
"""Settings that record steps, whose results are the plain ones' bits."""

AS_IT_COMES = {"compile": "auto", "record": "auto"}
"""Settings that nobody has to set."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One run.

    Attributes:
        journal: gets the rows.
        device: what is measured.
        root: folder of the models.
        tiny: whether models and pictures are tiny, to walk the way without a card.
    """

    journal: Journal
    device: torch.device
    root: Path
    tiny: bool

    @property
    def clock(self) -> Clock:
        return Clock(self.device, rounds=1 if self.tiny else 3)

    @property
    def counts(self) -> bool:
        """Whether figures are of a real card and of real sizes, so that goals mean something."""
        return self.device.type == "cuda" and not self.tiny

    def side(self, family: str) -> int:
        """Of the picture."""
        if self.tiny:
            return 128
        return 512 if family == "sd2" else 1024

    def steps(self, family: str) -> int:
        """Of an edit."""
        if self.tiny:
            return 3
        return 25 if family == "sd2" else 28

    @contextmanager
    def engine(
        self,
        family: str,
        ways: Mapping[str, str] = PLAIN,
        *,
        backend: BackendName = "torch",
        dtype: str = "bfloat16",
    ) -> Iterator[Engine]:
        """An engine whose model is loaded; its memory is free afterwards.

        Args:
            family: of the model.
            ways: settings of how steps are run.
            backend: of settings.
            dtype: of its weights.
        """
        with models.in_memory():
            engine = build.engine(
                str(models.folder(self.root, family, tiny=self.tiny)),
                device=str(self.device),
                dtype=dtype,
                settings=Settings(backend=backend, cache=self.root / "cache", **ways),
            )
            engine.model().load()
            try:
                yield engine
            finally:
                checkpoint = engine.model().checkpoint
                assert checkpoint is not None
                peers.forget(engine)
                checkpoint.release(*checkpoint.components)
                # A compiler at work would slow down what is measured next.
                compiling.BACKGROUND.wait()
                torch.compiler.reset()
                self.clock.forget()

    def request(self, family: str, share: float | None, *, seed: int = 0, **options: Any) -> Any:
        """An edit; `share` of the picture is masked, None = no mask."""
        side = self.side(family)
        return EditRequest(
            image=as_picture(peers.picture(side)),
            prompt=peers.PROMPT,
            mask=None if share is None else peers.mask(side, share),
            seed=seed,
            options={"num_inference_steps": self.steps(family), **options},
        )

    def edit(self, engine: Engine, request: EditRequest) -> Image.Image:
        """The picture of an edit for which nothing is remembered."""
        peers.forget(engine)
        return engine.run([request])[0].images[0]

    def warm(self, engine: Engine, request: EditRequest) -> None:
        """Run an edit of two steps until nothing of it is compiled any more."""
        few = replace(request, options={**request.options, "num_inference_steps": 2})
        self.edit(engine, few)
        compiling.BACKGROUND.wait()
        self.edit(engine, few)

    def whole(self, engine: Engine, request: EditRequest) -> tuple[Row, Image.Image]:
        """Seconds of a whole edit and of its parts, after warming; and its picture."""
        self.warm(engine, request)
        self.journal.check()
        results: list[EditResult] = []

        def work() -> None:
            peers.forget(engine)
            results.extend(engine.run([request]))

        seconds = self.clock.median(work)
        parts = {name: round(each, 3) for name, each in results[-1].timings.items()}
        return {"ours s": round(seconds, 3), "parts": parts}, results[-1].images[0]

    def steps_of(self, engine: Engine, requests: list[EditRequest], *, sparse: bool = False) -> Row:
        """Milliseconds and launches of one step of these edits together.

        Args:
            engine: whose edits.
            requests: of equal shape.
            sparse: measure a step after the first, which computes everything.
        """
        self.journal.check()
        edits = [engine.begin(request) for request in requests]
        images = [image for edit in edits for image in edit.prepared]
        if sparse:
            engine.step(edits[0].model, images)
        start = images[0].step

        def step() -> None:
            for image in images:
                # The same step again: a scheduler of flow matching counts by itself.
                image.step = start
                _rewind(image, start)
            engine.step(edits[0].model, images)

        host, device = self.clock.step(step)
        row: Row = {"host ms": round(host, 2), "device ms": round(device, 2)}
        kernels = self.clock.kernels(step)
        if kernels is not None:
            row |= {"launches": kernels[0], "kernels": kernels[1]}
        return row

    def plan(self, engine: Engine, request: EditRequest) -> str:
        """The size of what is computed of an edit."""
        edit: Edit = engine.begin(request)
        return "x".join(map(str, edit.regions[0].plan.canvas))

    def goal(self, seconds: float, limit: float) -> Row:
        """What was hoped for, and whether it came."""
        return goal(seconds, limit, counts=self.counts)


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures in grey levels of 255."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean())


def _rewind(image: Any, step: int) -> None:
    scheduler = image.scheduler
    if getattr(scheduler, "_step_index", None) is not None:
        scheduler._step_index = (scheduler.begin_index or 0) + step

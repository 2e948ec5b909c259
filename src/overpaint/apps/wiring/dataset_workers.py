"""Workers of data sets: an engine, a batcher, and the eyes that recipe and settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from overpaint.apps.wiring.models import build
from overpaint.core.models import ERASER
from overpaint.datasets.clean import Cleaner
from overpaint.datasets.collect import Collector
from overpaint.datasets.recipes.recipe import Clean, Collect, Recipe
from overpaint.datasets.vision.client import VisionModel
from overpaint.datasets.worker import TaskWorker, Tools
from overpaint.jobs.pool import THREADS

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.imaging.detections import Detection
    from overpaint.core.imaging.images import Picture
    from overpaint.core.types import EditRequest, EditResult
    from overpaint.datasets.gate import Likeness
    from overpaint.engine.batching.batcher import Batcher
    from overpaint.engine.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where and how a recipe runs.

    Attributes:
        device, dtype: as `build.engines` takes them.
        width: images in a pass of the model at most; with 1 a picture has the same bytes whatever
            is made beside it. None = learnt from the passes' times.
        threads: tasks under way in a process, for each of its devices.
        ray: address of a Ray cluster, or 'local'; None = this process.
        actors: engines on Ray; None = one for each GPU, or one.
    """

    device: str | None = None
    dtype: str | None = None
    width: int | None = 1
    threads: int = THREADS
    ray: str | None = None
    actors: int | None = None


def model_names(recipe: Recipe) -> list[str]:
    """Models that the recipe may use, the one that it names first."""
    assert recipe.model is not None, "see with_defaults"
    if isinstance(recipe, Collect):
        return [recipe.model]
    cleaning = cast("Clean", recipe)
    names = [recipe.model] if cleaning.edit is not None else []
    for rule in cleaning.rules:
        if rule.do in ("instruct", "inpaint"):
            names.append(rule.model or recipe.model)
        elif rule.do == "erase":
            names.append(rule.model or ERASER)
    return list(dict.fromkeys(names))


@contextmanager
def worker_with(
    recipe: Recipe, settings: Settings, engines: Sequence[Engine], width: int | None, out: Path
) -> Iterator[TaskWorker[Any]]:
    """A worker of this process, and the batcher that its edits meet in."""
    from overpaint.engine.batching.batcher import Batcher

    batcher = Batcher(engines, width=width, in_bulk=True) if engines else None
    try:
        yield _worker(recipe, settings, batcher, out)
    finally:
        if batcher is not None:
            batcher.close()


def make_worker(recipe: Recipe, settings: Settings, where: Where, out: Path) -> TaskWorker[Any]:
    """A worker with an engine of its own, for an actor of Ray."""
    from overpaint.engine.batching.batcher import Batcher

    names = model_names(recipe)
    batcher = None
    if names:
        engines = build.engines(names[0], device=where.device, dtype=where.dtype, settings=settings)
        batcher = Batcher(engines, width=where.width, in_bulk=True)
    return _worker(recipe, settings, batcher, out)


def _worker(
    recipe: Recipe, settings: Settings, batcher: Batcher | None, out: Path
) -> TaskWorker[Any]:
    tools = Tools(
        edit=partial(_edit, batcher),
        vision=_vision(recipe, settings),
        detect=None if recipe.detector is None else partial(_detect, recipe.detector, settings),
        outline=_outliner(recipe, settings),
        likeness=_likeness(recipe, settings),
    )
    if isinstance(recipe, Collect):
        return Collector(recipe, tools, out)
    return Cleaner(cast("Clean", recipe), tools, out)


def _edit(batcher: Batcher | None, request: EditRequest) -> EditResult:
    assert batcher is not None, "`model_names` lists all models of a recipe"
    return batcher.submit(request).result()


def _vision(recipe: Recipe, settings: Settings) -> VisionModel | None:
    """The recipe's vision model. The settings' key goes to the settings' address alone."""
    if recipe.vision is None:
        return None
    judge = settings.judge
    is_ours = judge.key is not None and judge.base_url == recipe.vision.base_url
    key = judge.key.get_secret_value() if is_ours and judge.key is not None else None
    return VisionModel(recipe.vision, key)


def _detect(name: str, settings: Settings, picture: Picture, words: str) -> list[Detection]:
    from overpaint.apps.wiring.models import segmentation
    from overpaint.segmenters.segmenter import Hints

    return segmentation.segment(picture, Hints(words=words), model=name, settings=settings)


def _outliner(
    recipe: Recipe, settings: Settings
) -> Callable[[Picture, Sequence[Detection]], list[Detection]] | None:
    name = recipe.look.outline if isinstance(recipe, Clean) and recipe.look is not None else None
    return None if name is None else partial(_outline, name, settings)


def _outline(
    name: str, settings: Settings, picture: Picture, things: Sequence[Detection]
) -> list[Detection]:
    """The same things, each with the mask that a segmentation model gives its box."""
    from overpaint.apps.wiring.models import segmentation
    from overpaint.segmenters.segmenter import Hints

    hints = Hints(boxes=tuple(each.box for each in things))
    outlined = segmentation.segment(picture, hints, model=name, settings=settings)
    return [replace(each, mask=one.mask) for each, one in zip(things, outlined, strict=True)]


def _likeness(recipe: Recipe, settings: Settings) -> Likeness | None:
    """A comparison of whole pictures, where the gate asks for one.

    Raises:
        ModelLoadError: the folder holds no such model.
    """
    folder = recipe.gate.likeness_model if isinstance(recipe, Clean) else None
    if folder is None:
        return None
    from overpaint.checkpoints.placement import devices_for
    from overpaint.sessions.judges.similarity import ModelSimilarity

    model = ModelSimilarity(folder, devices_for(settings.device)[0])
    return lambda before, after: model.between(before.to_srgb(), after.to_srgb())

"""Works on one task: edits, looks, measures, writes the picture, and says what became of it.

The same worker runs in threads on this machine and in the actors of Ray.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from PIL import Image

from overpaint.core.errors import (
    Cancelled,
    ContentBlocked,
    InvalidMask,
    InvalidRequest,
    OutputError,
    OverpaintError,
)
from overpaint.core.imaging import detections, images, masks
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.datasets import measure
from overpaint.datasets.recipes import languages
from overpaint.datasets.recipes.prompts import fill
from overpaint.datasets.recipes.recipe import Recipe
from overpaint.datasets.recipes.sections import COMMON, MaskSection
from overpaint.datasets.tasks import Task
from overpaint.datasets.vision.client import VisionModel
from overpaint.engine.intake import decoded
from overpaint.jobs.ledger import LedgerEntry, Status

if TYPE_CHECKING:
    from overpaint.core.imaging.detections import Detection
    from overpaint.core.types import EditResult
    from overpaint.datasets.gate import Likeness

R = TypeVar("R", bound=Recipe)

_log = logging.getLogger(__name__)


class Unfit(Exception):
    """The picture was made and is not good enough; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The tools of a worker; its caller, who may read settings, gives them.

    Attributes:
        edit: runs one edit, together with others that are under way.
        vision: the vision model of the recipe, if it has one.
        detect: finds things by words, if the recipe names a detector.
        outline: gives boxes their outlines, if the recipe asks for it.
        likeness: compares two pictures by a model, if the gate asks for it.
    """

    edit: Callable[[EditRequest], EditResult]
    vision: VisionModel | None = None
    detect: Callable[[Picture, str], Sequence[Detection]] | None = None
    outline: Callable[[Picture, Sequence[Detection]], Sequence[Detection]] | None = None
    likeness: Likeness | None = None


@dataclass(kw_only=True)
class Result:
    """The result of a task so far.

    Attributes:
        picture: None = the source stays as it is.
        mask: 'L', what the edit was to repaint; None = it had none.
        flagged: whether the safety policy flagged the picture; None = it was not checked.
        recipe, seed: of the last edit; the seed is None where there was none.
        extra: for the lineage.
        timings: seconds by stage.
        reason: a remark where the task is done, but not as was hoped.
        warnings: of the last edit.
    """

    picture: Picture | None = None
    mask: Image.Image | None = None
    flagged: bool | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    warnings: tuple[str, ...] = ()


class TaskWorker(ABC, Generic[R]):
    """Works on the tasks of one recipe; called from several threads.

    Args:
        recipe: what is wanted.
        tools: what to work with.
        folder: of the output; pictures are written below it.
    """

    def __init__(self, recipe: R, tools: Tools, folder: Path) -> None:
        self.recipe = recipe
        self.tools = tools
        self.folder = folder
        self._common = common_parts(recipe)
        self._english: dict[str, str] = {}

    def __call__(self, task: Task) -> LedgerEntry:
        """Bring a task to its end; it fails alone.

        Raises:
            OutputError: the disk is full or gone.
            Cancelled: the run ends.
        """
        result = Result()
        try:
            started = time.perf_counter()
            self.work(task, result)
            result.timings["total"] = time.perf_counter() - started
            return self._entry(task, result, "done", reason=result.reason)
        except Unfit as unfit:
            return self._entry(task, result, "rejected", reason=str(unfit))
        except ContentBlocked as error:
            return self._entry(task, result, "blocked", code=error.code, reason=str(error))
        except (OutputError, Cancelled):
            raise
        except OverpaintError as error:
            fault = getattr(error, "fault", None)
            code = f"{error.code}.{fault}" if fault else error.code
            return self._entry(task, result, "failed", code=code, reason=str(error))
        except Exception as error:
            _log.exception("a task failed: %s", task.item.name)
            reason = f"unexpected {type(error).__name__}: {error}"
            return self._entry(task, result, "failed", code=OverpaintError.code, reason=reason)

    @abstractmethod
    def work(self, task: Task, result: Result) -> None:
        """Do what the recipe says, filling in `result`.

        Raises:
            Unfit: the result is not good enough.
            OverpaintError: it cannot be done.
        """

    def edit(self, request: EditRequest, result: Result) -> Picture:
        """One edit, its lineage and timings in `result`."""
        request = replace(request, prompt=self._readable(request.prompt))
        outcome = self.tools.edit(request)
        result.recipe, result.seed = outcome.recipe, outcome.seeds[0]
        result.flagged, result.warnings = outcome.flagged[0], outcome.warnings
        for stage, seconds in outcome.timings.items():
            name = "edit" if stage == "total" else stage
            result.timings[name] = result.timings.get(name, 0.0) + seconds
        return outcome.pictures[0]

    def _readable(self, prompt: str) -> str:
        """The prompt, in English where the recipe asks for that; each is translated once."""
        if self.recipe.rewrite is None or not prompt:
            return prompt
        assert self.tools.vision is not None, "the recipe was checked"
        if prompt not in self._english:
            self._english[prompt] = languages.in_english(prompt, self.tools.vision.write)
        return self._english[prompt]

    def request(
        self, picture: Picture, prompt: str, mask: Image.Image | None, seed: int
    ) -> EditRequest:
        """An edit by the recipe's model and options, with the parts that all edits have."""
        return EditRequest(
            image=picture,
            prompt=prompt,
            mask=mask,
            seed=seed,
            model=self.recipe.model,
            options=self.recipe.options,
            **self._common,
        )

    def mask(self, section: MaskSection | None, picture: Picture, task: Task) -> Image.Image | None:
        """The mask that the recipe asks for.

        Raises:
            InvalidMask: there is none: nothing was found, or none came with the picture.
        """
        if section is None:
            return None
        size = picture.size
        if section.everywhere:
            return Image.new("L", size, 255)
        if section.box is not None:
            left, top, right, bottom = section.box
            box = (left * size[0], top * size[1], right * size[0], bottom * size[1])
            return masks.grow(masks.from_boxes([box], size), section.grow)
        if section.find is not None:
            words = fill(section.find, task.fields, field="recipe.mask.find")
            return masks.grow(_where(self.detect(picture, words), size), section.grow)
        own = task.item.load_mask(picture)
        if own is None:
            raise InvalidMask("the source has no mask for this picture", field="recipe.mask")
        return masks.grow(own, section.grow)

    def detect(self, picture: Picture, words: str) -> Sequence[Detection]:
        """The things that the zero-shot detector finds.

        Raises:
            InvalidRequest: the recipe names none.
        """
        if self.tools.detect is None:
            raise InvalidRequest(
                "there is no detector; name one, such as 'grounding-dino'", field="recipe.detector"
            )
        return self.tools.detect(picture, words)

    def measure(self, picture: Picture, before: Picture, task: Task, result: Result) -> None:
        """Note what the filters will be held against: they are applied later, and may change.

        Raises:
            VisionFailed: the vision model does not say whether the picture shows what it should.
        """
        changed_share = measure.changed_share(before.to_srgb(), picture.to_srgb())
        result.extra["measures"] = measure.measures(picture) | {"changed": round(changed_share, 5)}
        if (template := self.recipe.filters.shows) is not None:
            words = fill(template, task.fields, field="recipe.filters.shows")
            true, score = self._shows(picture, words)
            result.extra["shows"] = {"words": words, "true": true, "score": round(score, 4)}

    def keep(self, task: Task, result: Result) -> str | None:
        """Write the picture and its mask under the task's name, each whole or not at all.

        Returns:
            The picture's file, relative to the output folder; None = there is none.

        Raises:
            InvalidRequest: the picture does not fit the format of the recipe.
            OutputError: the disk is full or gone.
        """
        if result.picture is None:
            return None
        encoding = self.recipe.output.encoding
        name = task.picture(encoding.suffix_of(result.picture.format))
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path.parent} cannot be made: {error.strerror}", field="output"
            ) from error
        if result.mask is not None:
            images.save(Picture(result.mask.convert("RGB")), self.folder / task.mask)
            result.extra["mask"] = task.mask
        encoding.save(result.picture, path)
        return name

    def _shows(self, picture: Picture, words: str) -> tuple[bool, float]:
        if self.recipe.filters.shows_by == "detector":
            scores = [each.confidence or 0.0 for each in self.detect(picture, words)]
            return bool(scores), max(scores, default=0.0)
        assert self.tools.vision is not None, "the recipe was checked"
        return self.tools.vision.is_true(picture, words)

    def _entry(
        self, task: Task, result: Result, status: Status, *, reason: str, code: str = ""
    ) -> LedgerEntry:
        """The entry of a task; its picture is on the disk before."""
        picture = None
        try:
            picture = self.keep(task, result)
        except InvalidRequest as error:
            status, code, reason = "failed", error.code, str(error)
        return LedgerEntry(
            id=task.id,
            status=status,
            source=task.item.name,
            prompt=task.prompt or str(result.recipe.get("prompt", "")),
            seed=task.seed if result.seed is None else result.seed,
            code=code,
            reason=reason,
            warnings=result.warnings,
            picture=picture,
            flagged=True if status == "blocked" else result.flagged,
            recipe=result.recipe,
            timings=result.timings,
            finished=time.time(),  # here, and not when an actor's rows come back
            extra={**task.extra, **result.extra},
        )


def common_parts(recipe: Recipe) -> dict[str, Any]:
    """The parts that all edits of a recipe have, decoded once.

    Raises:
        InvalidRequest: a file cannot be read.
    """
    values = recipe.parts
    try:
        return {
            part.name: decoded(part, values[part.name]) for part in COMMON if part.name in values
        }
    except InvalidRequest as error:
        raise type(error)(error.message, field=f"recipe.{error.field}") from error


def _where(things: Sequence[Detection], size: tuple[int, int]) -> Image.Image:
    """The union of what was found.

    Raises:
        InvalidMask: nothing was found.
    """
    if not things:
        raise InvalidMask("nothing of that was found in the picture", field="recipe.mask.find")
    return detections.union(list(things), size)

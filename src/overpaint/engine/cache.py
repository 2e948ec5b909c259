"""Models that stay loaded: several within a memory budget, the least recently used leaves."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TypeVar

from overpaint.checkpoints.shortage import GIB
from overpaint.core.errors import OutOfMemory, Overloaded
from overpaint.core.work import garbage
from overpaint.engine.model import Model

RETRY_AFTER = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Encodings:
    """Texts and pictures found already encoded (`hits`) or not, and the bytes they take."""

    hits: int = 0
    misses: int = 0
    size: int = 0

    def plus(self, model: Model) -> Encodings:
        """With those of one more model."""
        if model.checkpoint is None:
            return self
        memo = model.checkpoint.memo
        return Encodings(self.hits + memo.hits, self.misses + memo.misses, self.size + memo.size)


class ModelCache:
    """Loads models by name and keeps them, within a budget.

    Args:
        load: gives the model of a name. It may raise `OutOfMemory`, then others leave and it is
            asked again.
        budget: bytes of weights to keep; None = whatever `load` finds room for.

    Attributes:
        hits, misses: how often a model was there, and how often it had to be loaded.
        spare: bytes beside what the models' plans take, for what images keep during their steps;
            None = nothing was planned.
    """

    def __init__(self, load: Callable[[str], Model], budget: int | None = None) -> None:
        self._load = load
        self._budget = budget
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self.hits = 0
        self.misses = 0
        self.spare: int | None = None
        self._past_encodings = Encodings()

    @property
    def reserved(self) -> int:
        """Bytes that the plans of its models promise them and that they have not taken yet."""
        return sum(model.reserved for model in self._models.values())

    @property
    def names(self) -> list[str]:
        """Names of the models that are loaded, the least recently used first."""
        return list(self._models)

    @property
    def size(self) -> int:
        """Bytes of weights of the models that are loaded."""
        return sum(self._sizes[name] for name in self.names)

    @property
    def encodings(self) -> Encodings:
        """What the memos of all models so far were asked for; bytes of those loaded."""
        total = self._past_encodings
        for model in self._models.values():
            total = total.plus(model)
        return replace(total, size=total.size - self._past_encodings.size)

    def get(self, name: str, busy: Collection[Model] = ()) -> Model:
        """The model of that name; others leave if there is no room.

        Args:
            name: of the model.
            busy: models with edits under way; they stay.

        Raises:
            Overloaded: there is no room until an edit of a busy model is done.
            OutOfMemory: there is no room even with every other model gone.
            ModelNotFound, ModelLoadError: from `load`.
        """
        if name in self._models:
            self.hits += 1
            self._models.move_to_end(name)
            return self._models[name]
        self.misses += 1
        model = self._loaded(name, busy)
        self._sizes[name] = _size(model)
        while self._budget is not None and self.size + self._sizes[name] > self._budget:
            if not self._models:
                raise OutOfMemory(
                    f"{name} has {self._sizes[name]:,} bytes of weights, more than the "
                    f"{self._budget:,} that models may keep; raise the budget"
                )
            self._evict(busy)
        self._models[name] = model
        if model.plan is not None:
            self.spare = model.plan.spare
        return model

    def peek(self, name: str) -> Model | None:
        """The model of that name if it is there; it counts as no use of it."""
        return self._models.get(name)

    def require_spare(self, needed: int, held_bytes: int) -> None:
        """Refuse an edit whose images keep more than there is beside the models' own need.

        Args:
            needed: bytes that they keep during their steps.
            held_bytes: those that the images under way keep.

        Raises:
            Overloaded: there is room once the images under way are done.
            OutOfMemory: there never is.
        """
        if self.spare is None or not needed or needed + held_bytes <= self.spare:
            return
        if held_bytes and needed <= self.spare:
            raise Overloaded(
                "the images in progress fill the memory; try again when they are done",
                retry_after=RETRY_AFTER,
            )
        raise OutOfMemory(
            f"this edit keeps {needed / GIB:.2f} GiB of keys and values between its steps, and "
            f"{self.spare / GIB:.2f} GiB are free for them; set refresh_every=1 (preset 'exact'), "
            "let window choose a smaller area, or make fewer images at once"
        )

    def with_room(self, model: Model, busy: Collection[Model], work: Callable[[], T]) -> T:
        """What `work` gives; if memory runs out, what is idle leaves, and it is tried once more.

        What was refused before it was tried has no cause, and is not tried again.
        """
        try:
            return work()
        except OutOfMemory as error:
            if error.__cause__ is None or not self.make_room(model, busy):
                raise
        return work()

    def make_room(self, model: Model, busy: Collection[Model] = ()) -> bool:
        """Let everything leave that is idle, where memory turned out to be short for a model.

        Args:
            model: what memory is needed for; it stays.
            busy: models with edits under way; they stay whole.

        Returns:
            Whether anything left.
        """
        idle = [name for name, each in self._models.items() if each not in (model, *busy)]
        for name in idle:
            self._leave(name)
        shrunk = model not in busy and model.economize()
        garbage.include_all()
        gc.collect()
        return bool(idle) or shrunk

    def _loaded(self, name: str, busy: Collection[Model]) -> Model:
        while True:
            try:
                return self._load(name)
            except OutOfMemory:
                if not self._models:
                    raise
            self._evict(busy)

    def _evict(self, busy: Collection[Model]) -> None:
        for name, model in self._models.items():
            if model not in busy:
                self._leave(name)
                return
        raise Overloaded(
            "the models in use fill the memory; try again when their edits are done",
            retry_after=RETRY_AFTER,
        )

    def _leave(self, name: str) -> None:
        model = self._models.pop(name)
        garbage.include_all()  # its objects may have been set aside once it was loaded
        self._past_encodings = self._past_encodings.plus(model)
        if self.spare is not None and model.plan is not None:
            self.spare += model.plan.peak


def _size(model: Model) -> int:
    return 0 if model.checkpoint is None else sum(model.checkpoint.sizes().values())

"""A loaded model: a family with its checkpoint, and what to say of it in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overpaint.checkpoints.checkpoint import Checkpoint
    from overpaint.checkpoints.placement import MemoryPlan
    from overpaint.diffusion.family import Family
    from overpaint.safety.policy import ImageChecker


@dataclass(frozen=True, eq=False)
class Model:
    """A family with its loaded checkpoint.

    Attributes:
        family: runs the edits.
        checkpoint: the weights; None for a family without any.
        record: name, family, revision, dtype and device, for recipes.
        notices: sentences about the model itself that every edit passes on.
        checkers: that its checkpoint brings, for the pictures that it makes.
    """

    family: Family[Any, Any]
    checkpoint: Checkpoint | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    checkers: tuple[ImageChecker, ...] = ()

    @property
    def plan(self) -> MemoryPlan | None:
        """How it is held in memory; None = nothing was planned."""
        return None if self.checkpoint is None else self.checkpoint.plan

    @property
    def reserved(self) -> int:
        """Bytes that its plan promises it and that it has not taken yet."""
        return 0 if self.checkpoint is None else self.checkpoint.reserved

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it has to be loaded to make an edit."""
        return self.checkpoint is None or self.checkpoint.is_whole

    def load(self) -> None:
        """Load every component now, not on its first use; text encoders that leave, later."""
        if self.checkpoint is not None:
            self.checkpoint.load()

    @property
    def warnings(self) -> list[str]:
        """Sentences that every edit with this model passes on to its caller."""
        loading = [] if self.checkpoint is None else self.checkpoint.warnings
        return [*self.notices, *loading]

    def release_text_encoders(self) -> None:
        """Let the text encoders leave, where memory is short."""
        if self.checkpoint is not None:
            self.checkpoint.release_text_encoders()

    def economize(self) -> bool:
        """Hold less from now on, while no edit is under way; whether anything left memory."""
        return self.checkpoint is not None and self.checkpoint.economize()

"""A loaded model: a family with its checkpoint, and what to say of it in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from overpaint.diffusion.family import Family
from overpaint.diffusion.loading import Checkpoint


@dataclass(frozen=True, eq=False)
class Model:
    """A family with its loaded checkpoint.

    Attributes:
        family: runs the edits.
        checkpoint: the weights; None for a family without any.
        record: name, family, revision, dtype and device, for recipes.
        evict_text_encoders: text encoders leave memory after each use.
    """

    family: Family
    checkpoint: Checkpoint | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    evict_text_encoders: bool = False

    def load(self) -> None:
        """Load every component now, not on its first use; text encoders that leave, later."""
        if self.checkpoint is None:
            return
        for name in self.checkpoint.components:
            if not (self.evict_text_encoders and name.startswith("text_encoder")):
                self.checkpoint.component(name)

    def release_text_encoders(self) -> None:
        """Let the text encoders leave, where memory is short."""
        if self.evict_text_encoders and self.checkpoint is not None:
            self.checkpoint.release("text_encoder", "text_encoder_2")

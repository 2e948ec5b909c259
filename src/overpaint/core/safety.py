"""What safety checks say: categories, stages, and the verdicts that a result carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Category = Literal["hate", "self_harm", "sexual", "violence", "blocklist"]
"""What content can be; 'blocklist' = words that somebody listed, whatever they mean."""

Stage = str
"""What was checked: 'input_image' (any picture that a caller gave), 'output_image' (a result), or
the name of the words (`prompt`, `negative_prompt`)."""

CATEGORIES: tuple[Category, ...] = get_args(Category)

MAX_SEVERITY = 7


@dataclass(frozen=True)
class Verdict:
    """What the checkers say of one text or picture.

    Attributes:
        stage: what was checked.
        index: which of several: input pictures in the order image, control, references; outputs;
            of prompts 1 is the one that was made of the caller's by a rewriter.
        severities: 0 (harmless) to 7 by category; a category that no checker knows is missing.
        flagged: the categories that reached their threshold.
    """

    stage: Stage
    index: int
    severities: Mapping[Category, int]
    flagged: tuple[Category, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """The verdict that `as_json` gave."""
        return cls(data["stage"], data["index"], data["severities"], tuple(data["flagged"]))

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "stage": self.stage,
            "index": self.index,
            "severities": dict(self.severities),
            "flagged": list(self.flagged),
        }

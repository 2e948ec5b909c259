"""Was it obeyed? Which of several candidates was it best?

A judge sees the picture before and after an edit, and what was asked. `PixelJudge` knows no words:
it looks for change where it is expected and for none elsewhere. Judges that read the instruction
(`sessions.judges.vision`) take its place where one is configured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from overpaint.core.errors import OverpaintError
from overpaint.core.imaging import changes
from overpaint.core.imaging.fidelity import report
from overpaint.core.imaging.images import Picture
from overpaint.sessions.judges import measures
from overpaint.sessions.types import TurnVerdict

LEAST_SHARE = 0.0005
"""Share of what may change from which something changed."""

CLEAR = 30.0
"""Mean colour difference (CIE 1976) in the region at which a change counts as fully clear."""

DOUBT = 0.3
"""Score of a judge that reads the instruction below which a warning is given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedEdit:
    """What an edit was to do.

    Attributes:
        before: the picture that was edited.
        instruction: the words; empty for an eraser.
        mask: 'L', where it was to happen; None = the instruction says.
    """

    before: Picture
    instruction: str
    mask: Image.Image | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a judge says of one candidate.

    Attributes:
        judge: who says so.
        score: 0 to 1, the higher the better.
        reason: one sentence, or nothing.
    """

    judge: str
    score: float
    reason: str = ""


class Judge(Protocol):
    """Looks at the candidates of one edit. May be called from several threads."""

    @property
    def name(self) -> str:
        """As results call it."""

    @property
    def reads(self) -> bool:
        """Whether it understands the instruction, so that a low score is worth a warning."""

    def judge(self, edit: JudgedEdit, candidates: Sequence[Picture], /) -> Sequence[Judgement]:
        """One judgement per candidate.

        Raises:
            JudgeUnavailable: it cannot say.
        """


class JudgeUnavailable(OverpaintError):
    """A judge did not answer, or not what was asked."""

    code = "judge_unavailable"


class PixelJudge:
    """Prefers clear change where it is expected, and none elsewhere.

    With a mask, change is expected all over it. Without one it is expected somewhere: the less of
    the picture a clear change takes, the better, and a faint one is worth less than a clear one.
    """

    name = "pixels"
    reads = False

    def judge(self, edit: JudgedEdit, candidates: Sequence[Picture]) -> list[Judgement]:
        """Scores from the pixels alone."""
        return [self._judged(edit, each) for each in candidates]

    def _judged(self, edit: JudgedEdit, after: Picture) -> Judgement:
        first, second = measures.pair(edit.before, after)
        differs = changes.colour_difference(first, second)
        if edit.mask is None:
            region = np.asarray(changes.changed_region(first, second)) > 0
            coverage = 1.0 if region.any() else 0.0
            spread = float(region.mean())
        else:
            region = _where(edit.mask, first.size)
            coverage = float((differs[region] >= changes.WEAK).mean()) if region.any() else 0.0
            spread = 0.0
        clear = _clearness(differs[region]) if region.any() else 0.0
        spilt = float((differs[~region] >= changes.WEAK).mean()) if not region.all() else 0.0
        return Judgement(
            judge=self.name, score=round(clear * coverage**0.5 * (1 - spread) * (1 - spilt), 4)
        )


def outcome(edit: JudgedEdit, after: Picture) -> TurnVerdict:
    """Whether an edit did something, nothing, or changed everything where no mask allowed it to.

    With a mask, only what is in it counts, at the picture's own size, so that a spot of dust does.
    An eraser has done something where any byte differs: what it fills in should look like the rest.
    """
    if edit.mask is not None:
        return "done" if _acted_in(edit.mask, edit, after) else "nothing_changed"
    share = float((changes.clearly_changed(*measures.pair(edit.before, after)) > 0).mean())
    if share > changes.GLOBAL_SHARE:
        return "everything_changed"
    return "done" if share >= LEAST_SHARE else "nothing_changed"


def _acted_in(mask: Image.Image, edit: JudgedEdit, after: Picture) -> bool:
    """Whether an edit changed what its mask marks."""
    box = mask.getbbox()
    if box is None:
        return False
    before = edit.before
    if before.size == after.size == mask.size:
        before, after, mask = _cut(before, box), _cut(after, box), mask.crop(box)
        if not edit.instruction.strip():
            differs = np.asarray(ImageChops.difference(before.rgb, after.rgb)).max(axis=2)
            return bool(differs[np.asarray(mask) > 0].any())
    first, second = measures.pair(before, after)
    may = _where(mask, first.size)
    return bool(changes.clearly_changed(first, second)[may].mean() >= LEAST_SHARE)


def _cut(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    return Picture(picture.rgb.crop(box), icc_profile=picture.icc_profile)


def rank(
    judgements: Sequence[Judgement],
    outcomes: Sequence[TurnVerdict],
    measures: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """Indexes of the candidates, the best first; the first of equals wins.

    Candidates that changed nothing, or everything, come after the others. A judge's score counts by
    how well the model kept the rest of the picture.

    Args:
        judgements, outcomes: of each candidate.
        measures: `EditResult.measures`; none = the judge's scores alone count.
    """
    grades = [report.grade(each) for each in measures] or [1.0] * len(judgements)
    scores = [each.score * (1 + grade) for each, grade in zip(judgements, grades, strict=True)]
    return sorted(
        range(len(judgements)),
        key=lambda index: (outcomes[index] != "done", -scores[index], index),
    )


def _where(mask: Image.Image, size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray(measures.working(mask).resize(size, Image.Resampling.NEAREST)) > 0


def _clearness(values: NDArray[np.float32]) -> float:
    """0 to 1 by the upper half, so that a region's soft edge does not count against it."""
    return min(1.0, float(np.sort(values)[len(values) // 2 :].mean()) / CLEAR)

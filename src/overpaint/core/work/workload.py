"""What an edit costs, estimated from its sizes before anything is computed. Imports nothing heavy.

The unit is the megapixel-step: one denoising step of a megapixel at the model's own size. Attention
between all pixels makes larger pictures dearer than their pixels: at four times the area of the
model's own size a pixel costs two and a half times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from overpaint.core.geometry import Size

MEGA = 1_000_000

CODING_STEPS = 4
"""Steps that encoding and decoding a picture cost together, about."""

LEAST_LARGEST = 768 * 768


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How the work of a family grows with the sizes of an edit.

    Attributes:
        native: side in pixels of the pictures that it was trained with; None = it takes any size,
            and its work grows with the pixels alone.
        passes: of the network in one step, at most; 2 with classifier-free guidance.
        largest: area of the largest canvas that it chooses by itself, in areas of its own size.
    """

    native: int | None = 1024
    passes: int = 2
    largest: float = 9 / 4

    def canvas(self, picture: Size, answer: Size | None) -> int:
        """Pixels that are computed for a picture, at most.

        Args:
            picture: its (width, height).
            answer: (width, height) of the answer, where the caller asks for one.
        """
        if answer is not None:
            return answer[0] * answer[1]
        area = picture[0] * picture[1]
        if self.native is None:
            return area
        # A small picture is scaled up to the model's own size.
        own = self.native * self.native
        return min(max(area, own), max(int(self.largest * own), LEAST_LARGEST))

    def megapixel_steps(
        self,
        canvas: int,
        *,
        references: Sequence[Size] = (),
        steps: int,
        images: int = 1,
    ) -> float:
        """The work of an edit.

        Args:
            canvas: pixels, as `canvas` says.
            references: (width, height) of further pictures that the network sees in each step.
            steps: denoising steps of one image; 0 = the family makes none.
            images: how many.
        """
        further = sum(self._reference(each) for each in references)
        megapixels = (canvas + further) / MEGA
        coding = CODING_STEPS * (canvas / MEGA * images + further / MEGA)
        return coding + steps * images * self.passes * megapixels * self._relative_cost(megapixels)

    def _reference(self, size: Size) -> int:
        """Pixels of a reference as the network sees it: scaled down to the model's own size."""
        area = size[0] * size[1]
        return area if self.native is None else min(area, self.native * self.native)

    def _relative_cost(self, megapixels: float) -> float:
        """Cost of a pixel among so many megapixels, relative to its cost at the model's own
        size."""
        if self.native is None:
            return 1.0
        return (1 + megapixels * MEGA / (self.native * self.native)) / 2

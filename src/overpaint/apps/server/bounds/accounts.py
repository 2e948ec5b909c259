"""What requests hold until they are answered: pixels of pictures, and the work of each key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from overpaint.apps.server.bounds import arrival
from overpaint.apps.settings import ServerSettings
from overpaint.apps.wire.cost import Cost
from overpaint.core.errors import InvalidImage, Overloaded


@dataclass(eq=False)
class Hold:
    """What one request, or the edit that came of it, holds.

    Attributes:
        caller: name of the caller's key.
        cost: what is held.
        is_held: whether it still is.
        is_edits: whether an edit holds it, which outlives its request.
    """

    caller: str
    cost: Cost
    is_held: bool = True
    is_edits: bool = False


class Accounts:
    """Counts what requests hold, and refuses what would be too much.

    Args:
        limits: `max_queued_megapixels` and `max_megapixel_steps_per_key`.
        retry_after: gives the seconds after which a refused caller may try again.

    Attributes:
        megapixels: of all pictures that are held.
    """

    def __init__(self, limits: ServerSettings, retry_after: Callable[[], float]) -> None:
        self._limits = limits
        self._retry_after = retry_after
        self._work: defaultdict[str, float] = defaultdict(float)
        self._pixels: defaultdict[str, float] = defaultdict(float)
        self._most_pixels = limits.of_a_key(limits.max_queued_megapixels)
        self.megapixels = 0.0

    def hold(self, cost: Cost, field: str = "image") -> Hold:
        """Hold what the current request costs, until it is answered or its edit ends.

        Args:
            cost: of the request.
            field: that has its pictures.

        Raises:
            InvalidImage: its pictures have more pixels than all of a key's that wait may have.
            Overloaded: others, or other edits of the same key, hold too much at present.
        """
        request = arrival.current()
        hold = Hold("anyone" if request is None else request.caller, cost)
        self._check_pixels(hold, field)
        self._check_work(hold)
        self.megapixels += cost.megapixels
        self._pixels[hold.caller] += cost.megapixels
        self._work[hold.caller] += cost.work
        if request is not None:
            request.at_end.append(lambda: None if hold.is_edits else self.release(hold))
        return hold

    def release(self, hold: Hold) -> None:
        """Give back what is held; a second time changes nothing."""
        if not hold.is_held:
            return
        hold.is_held = False
        # Rounded to a pixel: sums of floats do not come back to nothing by themselves.
        self.megapixels = round(self.megapixels - hold.cost.megapixels, 6)
        for sums, amount in (
            (self._work, hold.cost.work),
            (self._pixels, hold.cost.megapixels),
        ):
            sums[hold.caller] -= amount
            if sums[hold.caller] < 1e-6:
                del sums[hold.caller]

    def _check_pixels(self, hold: Hold, field: str) -> None:
        cost, most = hold.cost, self._most_pixels
        if cost.megapixels > most:
            raise InvalidImage(
                f"the pictures and masks have {cost.megapixels:.2f} megapixels together, more "
                f"than the limit of {most:g}; give fewer or smaller ones",
                field=field,
            )
        own, all_most = self._pixels.get(hold.caller, 0.0), self._limits.max_queued_megapixels
        for whose, waiting, limit in (
            ("your pictures", own, most),
            ("pictures", self.megapixels, all_most),
        ):
            if waiting + cost.megapixels > limit:
                raise Overloaded(
                    f"{whose} of {waiting:.2f} megapixels wait, and {cost.megapixels:.2f} more "
                    f"exceed the limit of {limit:g}; try again later",
                    retry_after=self._retry_after(),
                )

    def _check_work(self, hold: Hold) -> None:
        most = self._limits.max_megapixel_steps_per_key
        under_way = self._work.get(hold.caller, 0.0)
        if under_way and under_way + hold.cost.work > most:
            raise Overloaded(
                f"your unfinished edits take {under_way:.0f} megapixel-steps, and "
                f"{hold.cost.work:.0f} more exceed the limit of {most:g}; try again later",
                retry_after=self._retry_after(),
            )

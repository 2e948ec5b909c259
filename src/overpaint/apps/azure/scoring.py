"""Rows of the text-to-image-inpainting contract through an engine of this process: for Azure ML's
ticketed script and for the MLflow model, where other servers speak HTTP.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overpaint.apps.wire import cost, intake
from overpaint.apps.wiring.models import build, catalogue, defaults, families
from overpaint.core.errors import ContentBlocked, InvalidRequest, OverpaintError
from overpaint.core.imaging.images import Picture
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs import rows
from overpaint.jobs.rows import Row

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.engine.batching.ticket import Ticket

AHEAD = 8
"""Rows that are decoded and under way while one is waited for; bounds memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredRow:
    """What became of a row.

    Attributes:
        row: the row; None where it could not be read.
        picture: the edited picture, a black one where the row was blocked, None where it failed.
        flagged: whether the safety policy flagged it; None = nobody checked.
        seed: makes the picture again.
        error: why it failed or was blocked.
    """

    row: Row | None
    picture: Picture | None = None
    flagged: bool | None = None
    seed: int | None = None
    error: OverpaintError | None = None

    @property
    def blocked(self) -> bool:
        """Whether the safety policy refused it."""
        return isinstance(self.error, ContentBlocked)

    def answer(self) -> dict[str, Any]:
        """As the contract answers.

        Raises:
            OverpaintError: why it failed.
        """
        if self.error is not None and not self.blocked:
            raise self.error
        assert self.row is not None
        assert self.picture is not None
        return rows.answer(self.row, self.picture, self.flagged)


class Scorer:
    """One model and its batcher, for rows.

    Args:
        model: name, or folder in diffusers layout; None = the settings' default for inpainting.
        settings: all of them; the server's limits hold here too.

    Raises:
        OverpaintError: as `build.engines`.
    """

    def __init__(self, model: str | None, settings: Settings) -> None:
        self.model = model or defaults.choose("inpaint", settings)
        self._family = families.find(catalogue.find_model(self.model, settings).family)
        self.limits = settings.server
        if settings.safety.is_unset:
            _log.warning("no safety checker is configured: prompts and pictures are not checked")
        self._batcher = Batcher(build.engines(model, settings=settings))

    def score(self, table: Sequence[Row]) -> list[ScoredRow]:
        """Rows of one request, each answered; their steps are mixed.

        Raises:
            OverpaintError: of the first row that fails; blocked ones do not fail.
        """
        outcomes = []
        for outcome in self.stream(table):
            if outcome.error is not None and not outcome.blocked:
                raise outcome.error
            outcomes.append(outcome)
        return outcomes

    def stream(self, table: Iterable[Row | InvalidRequest]) -> Iterator[ScoredRow]:
        """Rows in their order, each with what became of it; those that could not be read fail."""
        under_way: deque[tuple[Row, Ticket, tuple[int, int]] | ScoredRow] = deque()
        try:
            for row in table:
                under_way.append(self._begin(row))
                if len(under_way) > AHEAD:
                    yield self._end(under_way.popleft())
            while under_way:
                yield self._end(under_way.popleft())
        finally:
            for left in under_way:
                if not isinstance(left, ScoredRow):
                    self._batcher.cancel(left[1])

    def close(self) -> None:
        """End the batcher's threads."""
        self._batcher.close()

    def _begin(self, row: Row | InvalidRequest) -> tuple[Row, Ticket, tuple[int, int]] | ScoredRow:
        if isinstance(row, InvalidRequest):
            return ScoredRow(row=None, error=row)
        try:
            edit = intake.of_row(row)
            cost.of_edit(edit, self._family, self.limits)
            may = intake.image_limits(self.limits)
            checked = intake.build(edit, self.model, self._family, may)
            ticket = self._batcher.submit(checked, seconds=self.limits.timeout_s)
        except InvalidRequest as error:
            return ScoredRow(row=row, error=row.at(error))
        return row, ticket, checked.request.size

    def _end(self, ticketed: tuple[Row, Ticket, tuple[int, int]] | ScoredRow) -> ScoredRow:
        if isinstance(ticketed, ScoredRow):
            return ticketed
        row, ticket, size = ticketed
        try:
            result = ticket.result()
        except ContentBlocked as error:
            return ScoredRow(row=row, picture=rows.blocked(size), flagged=True, error=error)
        except OverpaintError as error:
            failure = row.at(error) if isinstance(error, InvalidRequest) else error
            return ScoredRow(row=row, error=failure)
        return ScoredRow(
            row=row,
            picture=result.pictures[0],
            flagged=result.flagged[0],
            seed=result.seeds[0],
        )

"""Sessions as the settings describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overpaint.sessions.editing import Examiner
from overpaint.sessions.judging import Judge, PixelJudge
from overpaint.sessions.measures import Similarity, Thresholds
from overpaint.sessions.store import Limits, Store

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings


def store(settings: Settings) -> Store:
    """The store, opened.

    Raises:
        InvalidSettings, StoreUnavailable.
    """
    table = settings.sessions
    folder = table.place()
    url = table.url.get_secret_value() if table.url else f"sqlite:///{folder / 'sessions.db'}"
    limits = Limits(sessions=table.max_sessions, turns=table.max_turns, gigabytes=table.max_gb)
    return Store(url, folder / "pictures", limits)


def examiner(settings: Settings) -> Examiner:
    """What measures and ranks results.

    Raises:
        ModelLoadError: the folder of the similarity model holds none.
        InvalidSettings: the judge cannot be used.
    """
    warn = settings.sessions.warn
    return Examiner(
        judge=_judge(settings),
        similarity=_similarity(settings),
        thresholds=Thresholds(**warn.model_dump()),
    )


def _judge(settings: Settings) -> Judge:
    return PixelJudge()


def _similarity(settings: Settings) -> Similarity | None:
    return None

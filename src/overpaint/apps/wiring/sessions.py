"""Sessions as the settings describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overpaint.sessions.editor import Editor
from overpaint.sessions.judges.judging import Judge, PixelJudge
from overpaint.sessions.judges.measures import Similarity, Thresholds
from overpaint.sessions.measuring import Examiner
from overpaint.sessions.store import Store, StoreLimits

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.engine.engine import Engine


def store(settings: Settings) -> Store:
    """The store, opened.

    Raises:
        InvalidSettings, StoreUnavailable.
    """
    table = settings.sessions
    folder = table.place()
    url = table.url.get_secret_value() if table.url else f"sqlite:///{folder / 'sessions.db'}"
    limits = StoreLimits(sessions=table.max_sessions, turns=table.max_turns, gigabytes=table.max_gb)
    return Store(url, folder / "pictures", limits)


def examiner(settings: Settings) -> Examiner:
    """The judges that measure and rank results.

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


def editor(settings: Settings, store: Store, engine: Engine) -> Editor:
    """An editor that makes turns with an engine.

    Raises:
        ModelLoadError, InvalidSettings: as for `examiner`.
    """
    return Editor.with_engine(engine, store=store, examiner=examiner(settings))


def _judge(settings: Settings) -> Judge:
    table = settings.judge
    if table.base_url is None:
        return PixelJudge()
    from overpaint.sessions.judges.vision import VisionJudge

    key = None if table.key is None else table.key.get_secret_value()
    return VisionJudge(table.base_url, table.model, key, table.timeout_s)


def _similarity(settings: Settings) -> Similarity | None:
    folder = settings.sessions.similarity_model
    if folder is None:
        return None
    # torch and transformers are loaded for those alone who use it.
    from overpaint.checkpoints.placement import devices_for
    from overpaint.sessions.judges.similarity import ModelSimilarity

    return ModelSimilarity(folder, devices_for(settings.device)[0])

"""Models that the server downloads while it runs, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Literal

from overpaint.apps.server.errors import Forbidden, NotFound
from overpaint.apps.server.logs import report
from overpaint.apps.settings import Settings
from overpaint.apps.wiring.models import catalogue, licences, pulling
from overpaint.apps.wiring.models.segmentation import SEGMENTERS
from overpaint.core.errors import Cancelled, InvalidRequest, ModelNotFound
from overpaint.core.models import ModelSpec

PullStatus = Literal["queued", "running", "done", "failed", "cancelled"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PullProgress:
    """How far the download of a model is.

    Attributes:
        status: where it stands.
        bytes_done: of all its files together.
        bytes_total: of all its files; 0 = not known yet.
        error: what went wrong.
    """

    status: PullStatus = "queued"
    bytes_done: int = 0
    bytes_total: int = 0
    error: Exception | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("queued", "running")


@dataclass(eq=False)
class _Pull:
    spec: ModelSpec
    progress: PullProgress = PullProgress()
    stop_event: Event = field(default_factory=Event)


class Pulls:
    """The downloads of one server.

    Args:
        settings: say where models lie, and which licences were accepted.
        allowed: whether callers may start one.
        serve: takes a model in that has arrived; called in a thread.
    """

    def __init__(
        self, settings: Settings, *, allowed: bool, serve: Callable[[ModelSpec], None]
    ) -> None:
        self.allowed = allowed
        self._settings = settings
        self._serve = serve
        self._pool = ThreadPoolExecutor(1, "pulls")
        self._pulls: dict[str, _Pull] = {}

    def begin(self, name: str) -> PullProgress:
        """Download a model, unless that is under way.

        Raises:
            Forbidden: this server does not download for its callers.
            ModelNotFound: there is no such model.
            InvalidRequest: it does not come from a hub.
            LicenceNotAccepted: its licence must be accepted first.
        """
        if not self.allowed:
            raise Forbidden(
                "callers cannot make this server download models; run `overpaint pull` on "
                "its machine, or set server.pulls = true"
            )
        # By name alone: a request opens no path.
        spec = {**catalogue.models(self._settings), **SEGMENTERS}.get(name)
        if spec is None:
            raise ModelNotFound(
                "there is no such model; `GET /v1/catalogue` lists them", field="model"
            )
        if spec.source != "hub":
            raise InvalidRequest(f"'{name}' does not come from a hub; pull another", field="model")
        licences.require(spec, self._settings)
        pull = self._pulls.get(name)
        if pull is None or not pull.progress.is_under_way:
            pull = self._pulls[name] = _Pull(spec)
            self._pool.submit(self._run, pull)
        return pull.progress

    def progress(self, name: str) -> PullProgress | None:
        """How far a download has come; None = there was none."""
        pull = self._pulls.get(name)
        return None if pull is None else pull.progress

    def cancel(self, name: str) -> None:
        """Stop a download; files that arrived whole stay.

        Raises:
            NotFound: there is none.
        """
        if name not in self._pulls:
            raise NotFound("no download of this model is running")
        self._pulls[name].stop_event.set()

    def close(self) -> None:
        """Stop all downloads."""
        for pull in self._pulls.values():
            pull.stop_event.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, pull: _Pull) -> None:
        def note(_file: str, bytes_done: int, total: int) -> None:
            if pull.stop_event.is_set():
                raise Cancelled("the download was cancelled")
            pull.progress = PullProgress("running", bytes_done, total)

        try:
            note("", 0, 0)
            edits = pull.spec.name not in SEGMENTERS
            pulling.pull(pull.spec, self._settings, edits=edits, on_progress=note)
            self._serve(pull.spec)
        except Cancelled:
            pull.progress = replace(pull.progress, status="cancelled")
        except Exception as error:
            report(_log, "cannot pull a model", error)
            pull.progress = replace(pull.progress, status="failed", error=error)
        else:
            pull.progress = replace(pull.progress, status="done")

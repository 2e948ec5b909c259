"""What all protocols share: the models served, the batcher, and the edits in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from overpaint.apps.server.errors import Stopping, forget_frames, status_of
from overpaint.apps.server.jobs import EditJob, Jobs, new_id
from overpaint.apps.server.metrics import Metrics
from overpaint.apps.settings import Settings
from overpaint.apps.wire import intake
from overpaint.apps.wire.intake import MEGA, EncodedEdit, megapixels
from overpaint.apps.wiring.models import build, catalogue, checkpoints, defaults, families, licences
from overpaint.core.errors import (
    Cancelled,
    ModelNotFound,
    Overloaded,
    OverpaintError,
)
from overpaint.core.models import ModelSpec
from overpaint.core.types import EditRequest, EditResult
from overpaint.diffusion.family import FamilySpec
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.batching.ticket import Ticket, Update
from overpaint.engine.intake import CheckedRequest

Value = TypeVar("Value")
Readiness = Literal["loading", "ready", "failed", "stopping"]

PICTURE_THREADS = 2
RETRY_AFTER = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A model that clients may name."""

    spec: ModelSpec
    family: FamilySpec


@dataclass(frozen=True)
class Accepted:
    """An edit that may be submitted.

    Attributes:
        edit: held against its model's family.
        seconds: until nobody wants the result any more.
        previews: unfinished pictures to show on the way.
    """

    edit: CheckedRequest
    seconds: float
    previews: int = 0

    @property
    def request(self) -> EditRequest:
        """What is asked for."""
        return self.edit.request


class EditService:
    """The server's one object behind its routes.

    Args:
        settings: all of them; `settings.server` says what is served and how much.
        alone: whether clients always reach this very server; only then can they come back for an
            answer.

    Raises:
        ModelNotFound, ModelLoadError: a model to serve is not there.
        SafetyUnavailable, InvalidSettings: a checker that settings name cannot be used.
    """

    def __init__(self, settings: Settings, *, alone: bool = True) -> None:
        self.alone = alone
        self.limits = settings.server
        asked = defaults.chosen_by_hand(settings)
        self.settings = settings = defaults.resolved(settings)
        self.served = _served(settings)
        budget = self.limits.memory_gb
        self._engines = build.engines(
            next(iter(self.served)),
            asked=asked,
            settings=settings,
            lazy=True,
            budget=None if budget is None else int(budget * 1e9),
        )
        self.metrics = Metrics()
        self.jobs: Jobs[Any] = Jobs(
            keep_seconds=self.limits.keep_results_s,
            keep_bytes=int(self.limits.keep_results_mb * MEGA),
        )
        self.loading = True
        self.load_errors: dict[str, Exception] = {}
        self.stopping = False
        self.stopped_at: float | None = None
        self._batcher: Batcher | None = None
        self._megapixels = 0.0
        self._pool = ThreadPoolExecutor(PICTURE_THREADS, "pictures")
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def batcher(self) -> Batcher:
        """The batcher; there from `start` on."""
        assert self._batcher is not None
        return self._batcher

    async def start(self) -> None:
        """Begin to load the models; `ready` says when they are there."""
        if self.settings.safety.is_unset:
            _log.warning("no safety checker is configured: prompts and pictures are not checked")
        self._batcher = Batcher(
            self._engines,
            max_queued=self.limits.max_queued,
            max_images=max(self.limits.max_images_under_way, self.limits.max_images),
            observer=self.metrics,
        )
        self.metrics.watch(self._batcher)
        self.spawn(self._load_models())

    def warn_of_licences(self) -> None:
        """Say which models' licences may not allow that others are served."""
        for served in self.served.values():
            if warning := licences.beyond_this_machine(served.spec):
                _log.warning(warning)

    async def stop(self) -> None:
        """Let what was accepted finish, then end."""
        self.stopping = True
        await asyncio.to_thread(self.batcher.drain)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.batcher.close)
        self._pool.shutdown()

    async def work(self, work: Callable[..., Value], *args: Any) -> Value:
        """Do something slow beside the event loop: decode, encode, parse."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    def resolve(self, name: str | None, *, masked: bool) -> Served:
        """The model that a client means: by name, alias, or family; None = the task's default.

        Raises:
            ModelNotFound: it is not served.
        """
        defaults = self.settings.defaults
        if name is None:
            wanted = (defaults.inpaint if masked else defaults.edit, *self.served)
            name = next(each for each in wanted if each in self.served)
        name = self.limits.aliases.get(name, name)
        if name in self.served:
            return self.served[name]
        for served in self.served.values():
            if served.spec.family == name:
                return served
        known = ", ".join(sorted({*self.served, *self.limits.aliases}))
        raise ModelNotFound(f"there is no such model here; there are {known}", field="model")

    def check_running(self) -> None:
        """Refuse where the server takes nothing more.

        Raises:
            Stopping.
        """
        if self.stopping:
            raise Stopping("the server is stopping; try another one, or this one later")

    def check_room(self) -> None:
        """Refuse early, before pictures are decoded.

        Raises:
            Stopping, Overloaded.
        """
        self.check_running()
        full = self.batcher.queued >= self.limits.max_queued
        if full or self._megapixels >= self.limits.max_queued_megapixels:
            raise Overloaded("the queue is full; try again later", retry_after=self.retry_after)

    @property
    def retry_after(self) -> float:
        """Seconds after which a new attempt makes sense."""
        return self.batcher.retry_after if self._batcher else RETRY_AFTER

    async def check(
        self,
        edit: EncodedEdit,
        served: Served,
        *,
        seconds: float | None = None,
        previews: int = 0,
    ) -> Accepted:
        """Decode and check an edit, beside the event loop.

        Raises:
            InvalidRequest, Overloaded, Stopping.
        """
        self.check_room()
        checked = await self.work(intake.build, edit, served.spec.name, served.family, self.limits)
        allowed = self.limits.timeout_s
        return Accepted(checked, min(seconds or allowed, allowed), previews)

    def accept(
        self,
        checked: Accepted,
        caller: str,
        encode: Callable[[EditResult], Value],
        pool: ThreadPoolExecutor | None = None,
    ) -> EditJob[Value]:
        """Hand an edit to the batcher.

        Args:
            checked: from `check`.
            caller: name of the caller's key.
            encode: makes the answer of the result, beside the event loop.
            pool: where `encode` runs; None = beside the other work on pictures.

        Raises:
            Overloaded, Stopping.
        """
        self.check_room()
        loop = asyncio.get_running_loop()
        job: EditJob[Value] | None = None

        def on_update(update: Update) -> None:
            if job is not None:  # the very first news may come before it is made
                job.note(update, loop)

        ticket = self.batcher.submit(
            checked.edit,
            seconds=checked.seconds,
            previews=checked.previews,
            on_update=on_update,
        )
        self._megapixels += megapixels(checked.request)
        answer = self.spawn(self._answer(ticket, encode, pool))
        model = str(checked.request.model)
        job = EditJob(id=new_id(), caller=caller, model=model, ticket=ticket, answer=answer)
        answer.add_done_callback(lambda _: job.end())
        return job

    async def wait(self, job: EditJob[Value], request: Request, *, keep: bool = False) -> Value:
        """The answer; a caller that hangs up cancels the edit, unless it is kept.

        Raises:
            OverpaintError: what went wrong.
        """
        gone = asyncio.create_task(_disconnected(request))
        try:
            waited: set[asyncio.Future[Any]] = {job.answer, gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not job.answer.done():
            if not keep:
                self.cancel(job)
            raise Cancelled("the caller hung up")
        job.fetched = True
        return job.answer.result()

    def device_states(self) -> dict[str, str] | None:
        """Which of several devices are used; nothing to say of a single one."""
        devices = self.batcher.devices
        if len(devices) == 1:
            return None
        return {each.engine.device: "ok" if each.serves else "failed" for each in devices}

    def cancel(self, job: EditJob[Any]) -> None:
        """End an edit before its next step; one that is done stays done."""
        if job.ticket is not None:
            self.batcher.cancel(job.ticket)

    def position(self, job: EditJob[Any]) -> int | None:
        """How many edits are before this one in the queue; None once it left the queue."""
        return None if job.ticket is None else self.batcher.position(job.ticket)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing finished waits to be fetched."""
        if self._tasks or not self.batcher.idle:
            self.stopped_at = None
            return False
        now = time.monotonic()
        self.stopped_at = self.stopped_at or now
        return not self.jobs.waiting or now - self.stopped_at >= self.limits.drain_s

    async def _answer(
        self,
        ticket: Ticket,
        encode: Callable[[EditResult], Value],
        pool: ThreadPoolExecutor | None,
    ) -> Value:
        outcome = "internal_error"
        try:
            result = await asyncio.wrap_future(ticket.future)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(pool or self._pool, encode, result)
            outcome = "done"
            self.load_errors.pop(str(ticket.request.model), None)  # it is loaded now
        except OverpaintError as error:
            outcome = error.code
            if status_of(error) >= 500:
                _log.warning("an edit failed", exc_info=True)
            raise
        except Exception:
            _log.exception("an edit failed")
            raise
        finally:
            self._megapixels -= megapixels(ticket.request)
            seconds = time.monotonic() - ticket.trace.submitted
            self.metrics.finished(str(ticket.request.model), outcome, ticket.images, seconds)
        return answer

    async def _load_models(self) -> None:
        for name in self.served:
            try:
                await asyncio.wrap_future(self.batcher.load(name))
            except Exception as error:
                # Whatever it is, the other models are loaded, and /readyz says that this is over.
                _log.exception("cannot load a model", extra={"model": name, "error": str(error)})
                forget_frames(error)
                self.load_errors[name] = error
            else:
                _log.info("loaded", extra={"model": name})
        self.loading = False

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and edits are accepted."""
        return self.readiness == "ready"

    @property
    def readiness(self) -> Readiness:
        """Where the server stands; 'failed' = none of its models can be loaded."""
        if self.stopping:
            return "stopping"
        if self.loading:
            return "loading"
        hopeless = self.served.keys() <= self.load_errors.keys()
        stranded = not any(device.serves for device in self.batcher.devices)
        return "failed" if hopeless or stranded else "ready"

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that is waited for when the server stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Asked for here, so that an error nobody waits for is no warning at shutdown.
            task.exception()


def _served(settings: Settings) -> dict[str, Served]:
    """The models to serve, checked to be there.

    Raises:
        ModelNotFound, ModelLoadError: one that the settings name is not.
        LicenceNotAccepted: of one of them.
    """
    defaults = settings.defaults
    names = settings.server.models or tuple(
        dict.fromkeys(
            name
            for name in (defaults.inpaint, defaults.edit, defaults.erase)
            if name in catalogue.models(settings)
            and catalogue.state(catalogue.find_model(name, settings), settings) == "ready"
        )
    )
    if not names:
        raise ModelNotFound(
            "there is nothing to serve: no default model is on this machine; name one with --model "
            "or in server.models, or pull one",
            field="model",
        )
    specs = [catalogue.find_model(name, settings) for name in names]
    for spec in specs:
        if spec.source != "none":
            checkpoints.locate(spec, settings)
    return {spec.name: Served(spec, families.find(spec.family)) for spec in specs}


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

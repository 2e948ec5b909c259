"""What all protocols share: the models served, the batcher, and the edits in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from overpaint.apps.server.bounds import arrival, memory
from overpaint.apps.server.bounds.accounts import Accounts, Hold
from overpaint.apps.server.bounds.decoding import DecodingDesk
from overpaint.apps.server.bounds.lanes import RETRY_AFTER, Lane
from overpaint.apps.server.errors import Stopping, forget_frames, status_of
from overpaint.apps.server.jobs import EditJob, Jobs, new_id
from overpaint.apps.server.lifetime.ending import Shutdown
from overpaint.apps.server.lifetime.health import ModelHealth
from overpaint.apps.server.lifetime.tasks import Tasks
from overpaint.apps.server.logs import report
from overpaint.apps.server.metrics import Metrics
from overpaint.apps.settings import Settings
from overpaint.apps.wire import intake
from overpaint.apps.wire.cost import of_edit, of_file
from overpaint.apps.wire.intake import MEGA, EncodedEdit
from overpaint.apps.wiring.models import build, defaults, licences
from overpaint.apps.wiring.models.segmentation import SEGMENTERS
from overpaint.apps.wiring.served import Served, ServedModels
from overpaint.core.errors import Cancelled, Overloaded, OverpaintError
from overpaint.core.imaging import images
from overpaint.core.imaging.encoded import from_base64
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.models import ModelSpec
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.batching.ticket import Ticket, Update
from overpaint.engine.checking import CheckedRequest

__all__ = ["Accepted", "EditService", "Served"]

Value = TypeVar("Value")
Readiness = Literal["loading", "ready", "failed", "stopping"]

BODY_THREADS = 2
ANSWER_THREADS = 4
"""Bodies that are read, and answers that are made, at the same time; where there are several keys,
half of them are one key's at most."""

PATIENCE = 5.0
"""Seconds that threads with nothing more to do may take to end."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accepted:
    """An edit that may be submitted.

    Attributes:
        edit: held against its model's family.
        deadline: time of `time.monotonic` after which nobody wants the result any more.
        hold: what it holds of the limits.
        canvas: pixels that are computed for an image.
        previews: unfinished pictures to show on the way.
    """

    edit: CheckedRequest
    deadline: float
    hold: Hold
    canvas: int | None
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
        by_hand = defaults.chosen_by_hand(settings)
        self.settings = settings = defaults.resolved(settings)
        self._models = models = ServedModels(settings)
        self.served, self.resolve, self.aliases_of = models.all, models.resolve, models.aliases_of
        budget = self.limits.memory_gb
        self._engines = build.engines(
            next(iter(self.served)),
            by_hand=by_hand,
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
        self._tasks = Tasks()
        self.spawn = self._tasks.spawn
        families_ = {name: served.family for name, served in self.served.items()}
        self.health = ModelHealth(families_, self.spawn)
        self.ending = Shutdown(self.limits.drain_s)
        self._batcher: Batcher | None = None
        self.accounts = Accounts(self.limits, lambda: self.retry_after)
        self.decoding = DecodingDesk(self.limits)
        self._trimmer = memory.Trimmer()
        self._bodies = Lane("bodies", BODY_THREADS, int(self.limits.of_a_key(BODY_THREADS)))
        of_a_key = int(self.limits.of_a_key(ANSWER_THREADS))
        self._answers = Lane("answers", ANSWER_THREADS, of_a_key, most_waiting=None)
        self._loading_task: asyncio.Task[None] | None = None

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
            callers=round(1 / self.limits.of_a_key(1)),
            max_images=max(self.limits.max_images_under_way, self.limits.max_images),
            check_seconds=self.limits.check_timeout_s,
            observer=self.metrics,
        )
        self.metrics.watch(self._batcher)
        self._loading_task = asyncio.create_task(self._load_models())

    def serve(self, spec: ModelSpec) -> None:
        """Load one more model, which is here now, and serve it. Blocks until it is loaded.

        Raises:
            OverpaintError: it cannot be loaded.
        """
        if spec.name in SEGMENTERS:
            return  # it is loaded when something is to be found
        self.batcher.load(spec.name).result()
        self.health.add(spec.name, self._models.add(spec, self.settings).family)

    def warn_of_licences(self) -> None:
        """Say which models' licences may not allow that others are served."""
        for served in self.served.values():
            if warning := licences.beyond_this_machine(served.spec):
                _log.warning(warning)

    async def stop(self) -> None:
        """Let what was accepted finish while there is time, then end."""
        ending = self.ending
        ending.begin()
        if self._loading_task is not None:
            self._loading_task.cancel()
        time_for_edits = max(0.0, ending.seconds_left - ending.last_seconds)
        if not await asyncio.to_thread(self.batcher.drain, time_for_edits):
            self.cut_off()
        await self._tasks.wait(max(0.1, ending.seconds_left))
        await asyncio.to_thread(self.batcher.close, min(PATIENCE, ending.seconds_left))
        self._answers.pool.shutdown(wait=not ending.is_cut)
        self._bodies.pool.shutdown(wait=not ending.is_cut)
        if not ending.is_cut:
            self.decoding.close()

    def cut_off(self) -> None:
        """Refuse what is not done: there is no time left for it."""
        self.ending.is_cut = True
        self.batcher.close(0)

    @property
    def stopping(self) -> bool:
        """Whether the server finishes what it accepted, and takes nothing more."""
        return self.ending.has_begun

    async def work(self, work: Callable[..., Value], *args: Any) -> Value:
        """Do something slow beside the event loop, such as to encode an answer.

        Callers take turns.
        """
        return await self._answers.run(partial(work, *args))

    async def read(self, work: Callable[..., Value], *args: Any) -> Value:
        """Read what a caller sent, beside the event loop; callers take turns.

        Raises:
            Overloaded: too many requests wait for that.
        """
        return await self._bodies.run(partial(work, *args))

    def check_running(self) -> None:
        """Refuse where the server takes nothing more.

        Raises:
            Stopping.
        """
        if self.stopping:
            raise Stopping("the server is stopping; try again later, or use another server")
        if self.is_lost:
            raise Stopping("the server has no working device or model left; use another server")

    def check_room(self) -> None:
        """Refuse early, before pictures are decoded.

        Raises:
            Stopping, Overloaded.
        """
        self.check_running()
        full = self.batcher.queued >= self.limits.max_queued
        if full or self.accounts.megapixels >= self.limits.max_queued_megapixels:
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
        """Decode and check an edit, beside the event loop. It takes its place in the limits first.

        Raises:
            InvalidRequest, Overloaded, Stopping.
            DeadlineExceeded, Cancelled: while its pictures were decoded.
        """
        self.check_room()
        allowed = self.limits.timeout_s
        deadline = arrival.since() + min(seconds or allowed, allowed)
        cost = await self.read(of_edit, edit, served.family, self.limits)
        hold = self.accounts.hold(cost)
        build = partial(self._built, edit, served)
        checked, canvas = await self.decoding.run(build, is_plain=cost.is_plain, deadline=deadline)
        return Accepted(checked, deadline, hold, canvas or cost.canvas, previews)

    def _built(
        self, edit: EncodedEdit, served: Served, limits: ImageLimits
    ) -> tuple[CheckedRequest, int | None]:
        checked = intake.build(
            edit, served.spec.name, served.family, limits, size_step=served.size_step
        )
        return checked, self.batcher.canvas_of(checked)

    async def picture(self, encoded: str | bytes, field: str = "image") -> Picture:
        """A picture that no edit is made of, decoded beside the event loop.

        Args:
            encoded: its file, or base64 of that.
            field: name of the field in errors.

        Raises:
            InvalidImage, Overloaded, Cancelled.
        """
        if isinstance(encoded, str):
            encoded = await self.read(from_base64, encoded, field)
        cost = await self.read(of_file, encoded, field, self.limits)
        self.accounts.hold(cost)
        decode = partial(images.decode, encoded, field=field)
        return await self.decoding.run(lambda limits: decode(limits=limits), is_plain=cost.is_plain)

    def accept(
        self,
        checked: Accepted,
        caller: str,
        encode: Callable[[EditResult], Value],
        lane: Lane | None = None,
        undo: Callable[[], None] | None = None,
    ) -> EditJob[Value]:
        """Hand an edit to the batcher.

        Args:
            checked: from `check`.
            caller: name of the caller's key.
            encode: makes the answer of the result, beside the event loop.
            lane: where `encode` and `undo` run; None = beside the work on other answers.
            undo: takes back what was done for the edit, if it fails; its caller learns of that
                afterwards.

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
            seconds=max(0.0, checked.deadline - time.monotonic()),
            previews=checked.previews,
            on_update=on_update,
            caller=caller,
            canvas=checked.canvas,
        )
        checked.hold.is_edits = True
        answer = self.spawn(self._answer(ticket, encode, lane or self._answers, undo, on_update))
        answer.add_done_callback(lambda _: self._release(checked.hold))
        model = str(checked.request.model)
        job = EditJob(id=new_id(), caller=caller, model=model, ticket=ticket, answer=answer)
        answer.add_done_callback(lambda _: job.end())
        return job

    def _release(self, hold: Hold) -> None:
        """Free what an edit held that has ended."""
        self.accounts.release(hold)
        if self._trimmer.is_due(hold.cost.megapixels) and not self.stopping:
            self.spawn(self.work(self._trimmer.trim))

    async def wait(self, job: EditJob[Value], request: Request, *, keep: bool = False) -> Value:
        """The answer; a caller that hangs up cancels the edit, unless it is kept.

        Raises:
            OverpaintError: what went wrong.
        """
        disconnection = asyncio.create_task(_disconnected(request))
        try:
            waited: set[asyncio.Future[Any]] = {job.answer, disconnection}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            disconnection.cancel()
        if not job.answer.done():
            if not keep:
                self.cancel(job)
            raise Cancelled("the caller disconnected")
        job.fetched = True
        return job.answer.result()

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
        return not self._tasks and self.batcher.idle and not self.jobs.waiting

    async def _answer(
        self,
        ticket: Ticket,
        encode: Callable[[EditResult], Value],
        lane: Lane,
        undo: Callable[[], None] | None,
        on_update: Callable[[Update], None],
    ) -> Value:
        outcome = "internal_error"
        try:
            result = await asyncio.wrap_future(ticket.future)
            if ticket.previews and len(result.pictures) == 1:
                whole = result.pictures[0]
                on_update(Update(step=1, total=1, preview=whole, is_result=True))
            answer = await lane.run(partial(encode, result))
            outcome = "done"
            self.health.works(str(ticket.request.model))
        except Cancelled as error:
            outcome = error.code
            if self.ending.is_cut:
                raise Stopping(
                    "the server ended before the edit was done; send it again"
                ) from error
            raise
        except OverpaintError as error:
            outcome = error.code
            if status_of(error) >= 500:
                report(_log, "an edit failed", error)
            self.health.failed(str(ticket.request.model), error, self.batcher)
            raise
        except Exception as error:
            report(_log, "an edit failed", error)
            self.health.failed(str(ticket.request.model), error, self.batcher)
            raise
        finally:
            if undo is not None and outcome != "done":
                await lane.run(undo)
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
                self.health.errors[name] = error
            else:
                _log.info("loaded", extra={"model": name})
        memory.set_aside()
        self.loading = False

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and edits are accepted."""
        return self.readiness == "ready"

    @property
    def readiness(self) -> Readiness:
        """Where the server stands; 'failed' = none of its models, or no device, can be used."""
        if self.stopping:
            return "stopping"
        if self.loading:
            return "loading"
        return "failed" if self.health.is_hopeless or self._is_stranded else "ready"

    @property
    def is_lost(self) -> bool:
        """Whether what worked works no more, so that only a new start can help."""
        return self.health.gave_up or self._is_stranded

    @property
    def _is_stranded(self) -> bool:
        return not any(device.serves for device in self.batcher.devices)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

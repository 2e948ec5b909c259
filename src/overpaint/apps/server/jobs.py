"""Accepted edits as the server's clients know them: by id, with news, until they are forgotten."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from overpaint.apps.server import errors
from overpaint.apps.server.errors import Conflict, NotFound
from overpaint.core.errors import Overloaded
from overpaint.engine.batching.ticket import Ticket, Update

Answer = TypeVar("Answer")
JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]

MAX_LISTENERS = 8
WAITING_PIXELS = 4_000_000
"""Of previews that one client has not taken up."""

PartKey = tuple[str, int]
"""An idempotency key, and the place among the edits of one request."""


def new_id() -> str:
    """An id that cannot be guessed."""
    return f"edit_{secrets.token_hex(16)}"


class News(NamedTuple):
    """An update of an edit, and how many came before it."""

    number: int
    update: Update


@dataclass(eq=False, kw_only=True)
class EditJob(Generic[Answer]):
    """One accepted edit.

    Attributes:
        id: what clients call it.
        caller: whose it is; nobody else sees it.
        model: that makes it.
        ticket: its place in the batcher; None once it ended, so that its pictures can go.
        answer: gets what the client will be given, or raises what went wrong.
        size: bytes of the answer once it is there.
        fetched: whether somebody was given the answer.
    """

    id: str
    caller: str
    model: str
    ticket: Ticket | None
    answer: asyncio.Future[Answer]
    end_time: float | None = None
    size: int = 0
    fetched: bool = False
    _cancelled: bool = False
    _latest: News | None = None
    _listeners: list[Listener] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def status(self) -> JobStatus:
        """'queued', 'running', 'done', 'failed' or 'cancelled'."""
        if self.ticket is not None and not self.answer.done():
            return "queued" if self.ticket.state in ("waiting", "preparing") else "running"
        if self.answer.cancelled() or self._cancelled:
            return "cancelled"
        return "failed" if self.answer.exception() else "done"

    @property
    def may_be_done_later(self) -> bool:
        """Whether it ended without a result, for a reason that passes."""
        if not self.answer.done() or self.answer.cancelled():
            return self.answer.cancelled()
        error = self.answer.exception()
        return error is not None and errors.may_pass(error)

    @property
    def latest(self) -> Update | None:
        """The last news, without its preview."""
        return self._latest.update if self._latest else None

    def note(self, update: Update, loop: asyncio.AbstractEventLoop) -> None:
        """Take in news, in any thread; wake the event loop only where somebody listens."""
        number = next(self._numbers)
        if not update.is_result:
            self._latest = News(number, Update(step=update.step, total=update.total))
        if self._listeners:
            loop.call_soon_threadsafe(self._publish, News(number, update))

    def _publish(self, news: News) -> None:
        for listener in self._listeners:
            listener.put(news)

    def end(self) -> None:
        """Note the end; let go of those who listen, and of everything but the answer."""
        self.end_time = time.monotonic()
        if self.ticket is not None:
            self._cancelled = self.ticket.cancelled
            self.ticket = None
        if not self.answer.cancelled():
            error = self.answer.exception()
            if error is None:
                self.size = size_of(self.answer.result())
            else:
                self.answer = _failed(error, self.answer.get_loop())
        for listener in self._listeners:
            listener.end()

    async def news(self, every: float, after: int = -1) -> AsyncIterator[News | None]:
        """Updates from now on until the end; None where nothing came for `every` seconds.

        A first None says that the listener has its place. The last update before now follows,
        unless its number is not larger than `after`.

        Raises:
            Overloaded: too many listen already.
        """
        if len(self._listeners) >= MAX_LISTENERS:
            raise Overloaded(
                "this edit already has as many listeners as it may have", retry_after=5
            )
        listener = Listener()
        self._listeners.append(listener)  # before the last news is read: none is lost in between
        if self._latest is not None and self._latest.number > after:
            listener.put(self._latest)
        try:
            yield None
            while not (self.answer.done() and listener.is_empty):
                try:
                    async with asyncio.timeout(every):
                        news = await listener.next()
                except TimeoutError:
                    yield None
                    continue
                if news is None:
                    return
                yield news
        finally:
            self._listeners.remove(listener)


class Listener:
    """News for one client; previews that it is too slow to take up are dropped."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._last_number = -1
        self._change = asyncio.Event()
        self._is_over = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that the client has not been given."""
        return not self._news

    def put(self, news: News) -> None:
        """Add news, unless it is the last one again; of previews that wait, the oldest go where
        they have too many pixels."""
        if news.number == self._last_number:
            return
        self._last_number = news.number
        self._news.append(news)
        previews = [each for each in self._news if each.update.preview is not None]
        while sum(map(_pixels, previews)) > WAITING_PIXELS and len(previews) > 1:
            self._news.remove(previews.pop(0))
        self._change.set()

    def end(self) -> None:
        """There will be no more."""
        self._is_over = True
        self._change.set()

    async def next(self) -> News | None:
        """Wait for the next news; None = there are no more."""
        while not self._news:
            if self._is_over:
                return None
            self._change.clear()
            await self._change.wait()
        return self._news.pop(0)


def _pixels(news: News) -> int:
    """Of the preview in it."""
    assert news.update.preview is not None
    width, height = news.update.preview.size
    return width * height


def size_of(answer: object) -> int:
    """Bytes of an answer, about: pictures are its long texts."""
    if isinstance(answer, str | bytes):
        return len(answer)
    if isinstance(answer, Mapping):
        return sum(size_of(each) for each in answer.values())
    if isinstance(answer, list | tuple):
        return sum(size_of(each) for each in answer)
    return 0


def _failed(error: BaseException, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """A future with the error alone: a task keeps its traceback, whose frames hold pictures."""
    errors.forget_frames(error)
    future: asyncio.Future[Any] = loop.create_future()
    future.set_exception(error)
    # Asked for here, so that an error nobody waits for is no warning.
    future.exception()
    return future


class Jobs(Generic[Answer]):
    """Jobs that clients may ask for again: asynchronous ones and those with an idempotency key.

    Args:
        keep_seconds: how long after its end a job is known.
        keep_bytes: memory of all answers; the oldest are forgotten first.
    """

    def __init__(self, *, keep_seconds: float, keep_bytes: int) -> None:
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._jobs: OrderedDict[str, EditJob[Answer]] = OrderedDict()
        self._keys: dict[tuple[str, PartKey], tuple[str, str]] = {}
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def add(self, job: EditJob[Answer]) -> None:
        """Remember a job; its answer counts from the moment that it is there."""
        self.forget_old()
        self._jobs[job.id] = job
        job.answer.add_done_callback(lambda _: self.forget_old())

    def find(self, id_: str, caller: str) -> EditJob[Answer]:
        """The job of that id.

        Raises:
            NotFound: there is none, it is forgotten, or it is somebody else's.
        """
        self.forget_old()
        job = self._jobs.get(id_)
        if job is None or job.caller != caller:
            raise NotFound("there is no edit with this id, or its result is no longer kept")
        return job

    def turn(self, caller: str, key: str) -> asyncio.Lock:
        """Held by one request with an idempotency key after the other."""
        return self._turns.setdefault((caller, key), asyncio.Lock())

    def remember_key(self, caller: str, key: PartKey, fingerprint: str, id_: str) -> None:
        """Bind an idempotency key to a job and to what was asked for."""
        self._keys[caller, key] = (fingerprint, id_)

    def by_key(self, caller: str, key: PartKey, fingerprint: str) -> EditJob[Answer] | None:
        """The job that was accepted under an idempotency key, if there is one.

        One that failed for a reason that passes is forgotten: asked again, it may be done.

        Raises:
            Conflict: the key was used for another request.
        """
        self.forget_old()
        entry = self._keys.get((caller, key))
        if entry is None:
            return None
        if entry[0] != fingerprint:
            raise Conflict(
                "this idempotency key was already used for a different request; use a new one"
            )
        job = self._jobs.get(entry[1])
        if job is not None and job.may_be_done_later:
            self.remove(job)
            return None
        return job

    def remove(self, job: EditJob[Answer]) -> None:
        """Forget a job."""
        self._jobs.pop(job.id, None)
        self._keys = {key: entry for key, entry in self._keys.items() if entry[1] != job.id}

    def forget_old(self) -> None:
        """Forget what ended long ago, and answers that take too much memory together.

        Those that were fetched go first, and of them the oldest.
        """
        old_jobs = [job for job in self._jobs.values() if job.end_time is not None]
        total_size = sum(job.size for job in old_jobs)
        now = time.monotonic()
        for job in sorted(old_jobs, key=lambda each: (not each.fetched, each.end_time)):
            old = now - (job.end_time or now) > self._keep_seconds
            if old or total_size > self._keep_bytes:
                self.remove(job)
                total_size -= job.size

    @property
    def waiting(self) -> bool:
        """Whether there are answers that nobody has fetched, or jobs under way."""
        return any(not job.fetched for job in self._jobs.values())

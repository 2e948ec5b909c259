"""Tasks through Ray Data: a pool of actors, each with an engine of its own.

Actors work on tasks and write what they make, so the folder must be one that all machines see.
Small rows come back to this process, which alone writes the ledger: the same one as without Ray.
An actor that is killed is started again, and Ray gives it its tasks once more.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import ray
import ray.data

from overpaint.core.errors import InvalidRequest, OutputError
from overpaint.jobs.book import Book, WorkItem
from overpaint.jobs.ledger import LedgerEntry

T = TypeVar("T", bound=WorkItem)

LOCAL = "local"
"""Address of a cluster of this machine alone, made for the run."""

ROWS = 8
"""Tasks that an actor works on at once; their edits meet in its batcher."""

STORE = 256 * 2**20
"""Bytes that a local cluster keeps for rows; pictures never pass through it."""

PATIENCE = 10.0
"""Seconds to wait for a listener at an address."""

PLAN = 20_000
PLAN_BYTES = 64 * 2**20
"""Tasks, and their bytes, in one plan of Ray Data: rows of tables may hold whole pictures."""


class Cluster:
    """A Ray cluster that tasks can be given to."""

    def run(
        self,
        tasks: Iterable[T],
        make: Callable[[], Callable[[T], LedgerEntry]],
        book: Book[T],
        *,
        actors: int | None = None,
    ) -> None:
        """Bring all tasks to their end.

        Args:
            tasks: can be pickled.
            make: called once in each actor; gives what works on a task. Can be pickled.
            book: says what is left, and gets the ends.
            actors: how many; None = one for each GPU of the cluster, or one.

        Raises:
            Cancelled: the book's `cancelled` said so; all that ended is kept.
            OutputError: the disk is full or gone, here or at an actor.
        """
        gpus = ray.cluster_resources().get("GPU", 0)
        pending = book.pending(tasks)
        while some := _plan(pending):
            rows = ray.data.from_items(some, override_num_blocks=_blocks(len(some))).map_batches(
                _Actor,
                fn_constructor_args=(make,),
                batch_size=ROWS,
                compute=ray.data.ActorPoolStrategy(size=actors or max(1, int(gpus))),
                num_gpus=1 if gpus else 0,
                num_cpus=0 if gpus else 1,
            )
            for row in rows.iter_rows():
                book.check_cancelled()
                payload = json.loads(row["entry"])
                if "output_error" in payload:
                    raise OutputError(payload["output_error"], field="output")
                book.end(LedgerEntry.of(payload))


@contextmanager
def cluster(address: str, *, actors: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster, or make one on this machine that nobody else can reach.

    Args:
        address: 'local', 'auto', or as `ray.init` takes it.
        actors: that a local cluster has room for, however many cores there are.

    Raises:
        InvalidRequest: there is no cluster at that address, or none can be started.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        if address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address=LOCAL,
                num_cpus=max(os.cpu_count() or 1, (actors or 1) + 1),
                object_store_memory=STORE,
                include_dashboard=False,
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
            )
        else:
            _require_listener(address)
            ray.init(address=address, log_to_driver=False)
    except Exception as error:  # Ray raises that itself where a node does not start
        raise InvalidRequest(
            f"Ray cannot be reached or started at '{address}': {error}", field="ray"
        ) from error
    try:
        yield Cluster()
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Fail at once if nothing listens there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


class _Actor:
    """Called by Ray Data in a process of its own."""

    def __init__(self, make: Callable[[], Callable[[Any], LedgerEntry]]) -> None:
        self._work = make()
        self._threads = ThreadPoolExecutor(ROWS)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"entry": list(self._threads.map(self._one, batch["task"]))}

    def _one(self, pickled: bytes) -> str:
        try:
            # Our own, from the process that reads the ledger.
            return json.dumps(asdict(self._work(pickle.loads(pickled))))  # noqa: S301
        except OutputError as error:
            return json.dumps({"output_error": error.message})


def _plan(pending: Iterator[Any]) -> list[dict[str, bytes]]:
    """The next tasks, as rows of Ray Data; empty = there are none left."""
    rows: list[dict[str, bytes]] = []
    size = 0
    for task in pending:
        pickled = pickle.dumps(task)
        rows.append({"task": pickled})
        size += len(pickled)
        if len(rows) == PLAN or size >= PLAN_BYTES:
            break
    return rows


def _blocks(tasks: int) -> int:
    """Blocks of about `ROWS` tasks, so that every actor has something to do."""
    return max(1, tasks // ROWS)

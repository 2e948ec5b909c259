"""Batches on Ray: what each actor loads, and where it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from overpaint.apps.wiring.models import build
from overpaint.core.errors import InvalidRequest
from overpaint.jobs.output.pictures import PictureFolder
from overpaint.jobs.runner import UnitWorker

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.models import Lora
    from overpaint.jobs.book import Book
    from overpaint.jobs.ray import Cluster
    from overpaint.jobs.units import Unit


@dataclass(frozen=True, kw_only=True)
class BatchModel:
    """The model of a batch, as every process that works on it loads it.

    Attributes:
        name: a model, or a folder that all machines see.
        device, dtype, loras: as `build.engines` takes them.
        width: as of a `Batcher`.
    """

    name: str
    device: str | None
    dtype: str | None
    loras: Sequence[Lora]
    width: int | None


def cluster(address: str, actors: int | None) -> AbstractContextManager[Cluster]:
    """A Ray cluster: see `jobs.ray.cluster`.

    Raises:
        InvalidRequest: Ray is not installed.
    """
    try:
        from overpaint.jobs import ray
    except ImportError as error:
        raise InvalidRequest(
            "this needs another package: pip install 'overpaint[ray]'", field="ray"
        ) from error
    return ray.cluster(address, actors=actors)


@contextmanager
def on_ray(
    address: str, actors: int | None, model: BatchModel, folder: PictureFolder, settings: Settings
) -> Iterator[Callable[[Iterable[Unit], Book[Unit]], None]]:
    """A runner of units on a Ray cluster, for `Batch.elsewhere`.

    Args:
        address: as `ray.cluster` takes it.
        actors: engines; None = one for each GPU, or one.
        model: loaded by each actor.
        folder: that all machines see.
        settings: of this machine; the actors have the same.

    Raises:
        InvalidRequest: Ray is not installed, or there is no cluster at that address.
    """
    make = partial(make_worker, model, folder, settings)
    with cluster(address, actors) as there:
        yield lambda units, book: there.run(units, make, book, actors=actors)


def make_worker(model: BatchModel, folder: PictureFolder, settings: Settings) -> UnitWorker:
    """A worker with an engine of its own, for an actor."""
    from overpaint.engine.batching.batcher import Batcher

    engines = build.engines(
        model.name, device=model.device, dtype=model.dtype, loras=model.loras, settings=settings
    )
    return UnitWorker(Batcher(engines, width=model.width, in_bulk=True), folder.keep)

"""The dry run: counts, prompts, time and disk from one measured picture, licences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

from overpaint.datasets.clean import Cleaning
from overpaint.datasets.collect import Collection
from overpaint.datasets.output.card import Facts
from overpaint.datasets.recipes import prompts
from overpaint.datasets.tasks import Task
from overpaint.datasets.worker import TaskWorker
from overpaint.jobs.ledger import LedgerEntry


def preview(job: Collection | Cleaning, worker: TaskWorker[Any], facts: Facts) -> dict[str, Any]:
    """What a run would do, as plain data for people and programs.

    One picture is really made, by a worker whose folder is thrown away; the first one is not
    counted, because models load with it.
    """
    if isinstance(job, Collection):
        attempts = job.next_round()
        tasks = [task for attempt in attempts for task in attempt]
        summary: dict[str, Any] = {
            "cells": len(job.cells),
            "pictures wanted": job.quota,
            "pictures made": f"{len(tasks)}, if all pass; at most "
            f"{job.quota * job.recipe.tries * job.recipe.best_of}",
            "sources": len(job.items),
            "prompts": prompts.samples(job.recipe, job.cells),
        }
        count = len(tasks)
    else:
        items = list(islice(job.items, job.limit))
        tasks = list(replace(job, items=items[-2:]).tasks())
        count = len(items)
        summary = {"pictures": count, "by": _by(job)}
    return (
        summary
        | _estimates(tasks, count, worker)
        | {"notes": [*facts.notes(), *facts.assumptions()]}
    )


def _estimates(tasks: Sequence[Task], count: int, worker: TaskWorker[Any]) -> dict[str, Any]:
    """Time and disk of so many tasks, at the pace of one."""
    if not tasks:
        return {}
    worker(tasks[0])
    started = time.perf_counter()
    entry = worker(tasks[-1])
    seconds = time.perf_counter() - started
    size = (worker.folder / entry.picture).stat().st_size if entry.picture else 0
    return {
        "one picture": f"{seconds:.2f} s, {size / 1e6:.2f} MB, {_status_text(entry)}",
        "time": f"about {timedelta(seconds=round(seconds * count))}, one after the other",
        "disk": f"about {2 * size * count / 1e6:,.0f} MB, made and exported",
    }


def _status_text(entry: LedgerEntry) -> str:
    return entry.status + (f" ({entry.reason})" if entry.reason else "")


def _by(job: Cleaning) -> list[str]:
    recipe = job.recipe
    steps = []
    if recipe.exact is not None:
        steps.append(f"exact: {recipe.exact.model_dump(exclude_none=True)}")
    if recipe.edit is not None:
        steps.append(f"edit: {recipe.edit.prompt or 'with the mask'}")
    if recipe.look is not None:
        steps.append(f"look ({recipe.look.by}): {', '.join(recipe.look.labels)}")
    return steps + [f"{rule.when}: {rule.do} {rule.prompt}".strip() for rule in recipe.rules]

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overpaint.core.errors import ContentBlocked, OutOfMemory
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.datasets.collect import Collection, Collector
from overpaint.datasets.outcome import Outcome, unfit
from overpaint.datasets.recipes import prompts
from overpaint.datasets.recipes.recipe import Collect
from overpaint.datasets.recipes.sections import Filters, Vision
from overpaint.datasets.sources.readers import items
from overpaint.datasets.tasks import complete, recipe_key
from overpaint.datasets.vision.client import VisionModel
from overpaint.jobs import pool
from overpaint.jobs.book import Book, Tally
from overpaint.jobs.ledger import Ledger, LedgerEntry, Status
from tests.datasets.conftest import COLOURS, Painter, tools
from tests.datasets.vision_server import Fault, serving

BASE: dict[str, Any] = {
    "sources": [{"folder": "pictures"}],
    "prompt": "a {colour} disc",
    "axes": {"colour": ["red", "green", "blue"]},
    "quota": 3,
    "mask": {"box": [0, 0, 1, 1]},
    "seed": 1,
}


def run(
    recipe: Collect,
    out: Path,
    painter: Painter,
    *,
    limit: int | None = None,
    retry: tuple[Status, ...] = (),
    **others: Any,
) -> tuple[Outcome, Tally]:
    plan = Collection(
        recipe=recipe,
        cells=prompts.cells(recipe),
        items=list(items(recipe.sources)),
        key=recipe_key(recipe, {}),
        limit=limit,
    )
    worker = Collector(recipe, tools(painter, **others), out)
    with Ledger(out / "ledger.jsonl") as ledger:
        book: Book[Any] = Book(
            ledger=ledger,
            retry=retry,
            complete=lambda entry: complete(out, entry),
            tally=Tally(),
        )
        outcome = plan.run(ledger, lambda tasks, _: pool.run(tasks, worker, book, threads=3))
    return outcome, book.tally


def counts(outcome: Outcome) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in outcome.members:
        found[row.entry.extra["key"]] = found.get(row.entry.extra["key"], 0) + 1
    return found


FULL = {"colour=red": 3, "colour=green": 3, "colour=blue": 3}


@pytest.fixture
def recipe(make_recipe: Callable[..., Collect], pictures: Path) -> Collect:
    return make_recipe("collect", **BASE)


def test_every_cell_is_filled(recipe: Collect, tmp_path: Path, painter: Painter) -> None:
    outcome, tally = run(recipe, tmp_path / "out", painter)
    assert counts(outcome) == FULL
    assert outcome.missing == {}
    assert tally.computed == 9
    seeds = {request.seed for request in painter.requests}
    assert len(seeds) == 9
    for row in outcome.members:
        assert (tmp_path / "out" / str(row.entry.picture)).is_file()
        assert row.entry.extra["cell"]["colour"] in row.entry.prompt


def test_again_nothing_is_made(recipe: Collect, tmp_path: Path, painter: Painter) -> None:
    first, _ = run(recipe, tmp_path / "out", painter)
    again, tally = run(recipe, tmp_path / "out", painter)
    assert tally.computed == 0
    assert [row.entry for row in again.members] == [row.entry for row in first.members]
    (tmp_path / "out" / str(first.members[0].entry.picture)).unlink()
    _, tally = run(recipe, tmp_path / "out", painter)
    assert tally.computed == 1


def test_a_limit_leaves_what_earlier_runs_made(
    make_recipe: Callable[..., Collect], recipe: Collect, tmp_path: Path, painter: Painter
) -> None:
    few, _ = run(recipe, tmp_path / "out", painter, limit=4)
    assert sum(counts(few).values()) == 4
    whole, _ = run(recipe, tmp_path / "out", painter)
    again, tally = run(recipe, tmp_path / "out", painter, limit=4)
    assert tally.computed == 0
    assert [row.entry for row in again.members] == [row.entry for row in whole.members]
    more = make_recipe("collect", **(BASE | {"quota": 5}))
    longer, tally = run(more, tmp_path / "out", painter, limit=10)
    assert (tally.computed, sum(counts(longer).values())) == (4, 13)


def test_more_quota_and_other_filters_make_only_what_is_missing(
    make_recipe: Callable[..., Collect], recipe: Collect, tmp_path: Path, painter: Painter
) -> None:
    run(recipe, tmp_path / "out", painter)
    more = make_recipe("collect", **(BASE | {"quota": 4, "filters": {"issues": ["dark"]}}))
    outcome, tally = run(more, tmp_path / "out", painter)
    assert set(counts(outcome).values()) == {4}
    assert tally.computed == 3


def test_another_seed_gives_other_pictures(
    make_recipe: Callable[..., Collect], recipe: Collect, tmp_path: Path, painter: Painter
) -> None:
    first, _ = run(recipe, tmp_path / "a", painter)
    other, _ = run(make_recipe("collect", **(BASE | {"seed": 2})), tmp_path / "b", painter)
    ids = {row.entry.id for row in first.members}
    assert ids.isdisjoint(row.entry.id for row in other.members)


def test_what_does_not_pass_is_made_up_for(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path
) -> None:
    def unchanged(request: EditRequest) -> bool:
        return int(request.seed or 0) % 3 == 0

    recipe = make_recipe("collect", **(BASE | {"filters": {"changed": [0.01, 1]}}))
    outcome, tally = run(recipe, tmp_path / "out", Painter(unchanged))
    assert counts(outcome) == FULL
    assert tally.computed > 9
    assert {each.reason for each in outcome.rejected} == {
        "0.00% of it changed, not 1.00% to 100.00%"
    }


def test_a_cell_that_cannot_be_filled_is_given_up(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path
) -> None:
    recipe = make_recipe("collect", **(BASE | {"filters": {"changed": [0.01, 1]}, "tries": 2}))
    outcome, tally = run(recipe, tmp_path / "out", Painter(lambda r: "green" in r.prompt))
    assert outcome.missing == {"colour=green": 3}
    assert counts(outcome) == {"colour=red": 3, "colour=blue": 3}
    assert tally.computed == 3 + 3 + 6


def test_errors_are_kept_with_their_reasons_and_can_be_retried(
    recipe: Collect, tmp_path: Path, painter: Painter
) -> None:
    def fails(request: EditRequest) -> Exception | None:
        number = int(request.seed or 0) % 4
        blocked = ContentBlocked("no", stage="prompt", category="hate")
        return {0: OutOfMemory("too large"), 1: blocked}.get(number)

    outcome, tally = run(recipe, tmp_path / "out", Painter(fails))
    assert counts(outcome) == FULL
    reasons = {(each.entry.status, each.entry.code, each.reason) for each in outcome.rejected}
    assert reasons == {
        ("failed", "out_of_memory", "too large"),
        ("blocked", "content_blocked", "no"),
    }
    failed = tally.statuses["failed"]
    outcome, tally = run(recipe, tmp_path / "out", painter, retry=("failed",))
    assert 1 <= tally.computed <= failed
    assert {each.entry.status for each in outcome.rejected} == {"blocked"}


def test_where_all_fails_it_stops(recipe: Collect, tmp_path: Path) -> None:
    outcome, tally = run(recipe, tmp_path / "out", Painter(lambda _: OutOfMemory("too large")))
    assert outcome.stopped is not None
    assert tally.computed == 9
    assert outcome.missing == FULL


def test_near_duplicates_do_not_count(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path
) -> None:
    class Same(Painter):
        def _painted(self, request: EditRequest) -> Any:
            rgb = request.image.rgb.copy()
            rgb.paste(COLOURS["red"], (10, 10, 30, 30))
            return rgb

    given = {"axes": {"colour": ["red"]}, "quota": 8, "filters": {"duplicates": 2}, "tries": 3}
    recipe = make_recipe("collect", **(BASE | given))
    outcome, _ = run(recipe, tmp_path / "out", Same())
    assert counts(outcome) == {"colour=red": 6}, "one for each source"
    assert outcome.missing == {"colour=red": 2}
    duplicates = [each for each in outcome.rejected if each.like]
    assert len(duplicates) == 18
    kept = {row.entry.id for row in outcome.members}
    assert all(each.like in kept for each in duplicates)


def test_the_best_of_several_counts(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    recipe = make_recipe("collect", **(BASE | {"best_of": 3, "best_by": "sharpness"}))
    outcome, tally = run(recipe, tmp_path / "out", painter)
    assert tally.computed == 27
    assert counts(outcome) == FULL
    beaten = [each for each in outcome.rejected if "better" in each.reason]
    assert len(beaten) == 18
    for row in outcome.members:
        own = row.entry.extra
        others = [
            each.entry.extra["measures"]["sharpness"]
            for each in beaten
            if each.entry.extra["key"] == own["key"]
            and each.entry.extra["attempt"] == own["attempt"]
        ]
        assert own["measures"]["sharpness"] >= max(others)


def test_a_vision_model_decides_and_its_faults_lose_nothing(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    calls = iter(range(10_000))
    faults = {1: "429", 3: "garbage", 5: "refusal", 7: "503", 8: "wrong"}

    def answer(image: Any, words: str) -> dict[str, Any]:
        if (kind := faults.get(next(calls))) is not None:
            raise Fault(kind)
        wanted = next(name for name in COLOURS if name in words)
        near = np.abs(np.asarray(image, int) - COLOURS[wanted]).max(axis=2) < 20
        return {"true": bool(near.mean() > 0.05), "score": float(near.mean())}

    given = {"filters": {"shows": "a {colour} disc"}, "vision": {}}
    with serving(answer) as server:
        where = {"base_url": server.url, "model": "m", "retries": 0}
        recipe = make_recipe("collect", **(BASE | given | {"vision": where}))
        vision = VisionModel(Vision.model_validate(where))
        outcome, tally = run(recipe, tmp_path / "out", painter, vision=vision)
        assert counts(outcome) == FULL
        failed = [each.entry for each in outcome.rejected]
        assert sorted(entry.code for entry in failed) == [
            "vision_failed.busy",
            "vision_failed.refused",
            "vision_failed.unreachable",
            "vision_failed.unreadable",
            "vision_failed.unreadable",
        ]
        assert all(entry.reason and entry.picture for entry in failed)
        assert tally.computed == len(outcome.members) + len(failed) + outcome.surplus
        again, tally = run(recipe, tmp_path / "out", painter, vision=vision, retry=("failed",))
        assert tally.computed == 5
        assert again.rejected == []


def test_a_sure_answer_can_be_asked_for() -> None:
    told = {
        "measures": {"width": 48, "height": 48, "issues": [], "changed": 0.2},
        "shows": {"words": "a red disc", "true": True, "score": 0.7},
    }
    entry = LedgerEntry(id="a", status="done", source="a", extra=told)
    assert unfit(entry, Filters(shows="a red disc", shows_score=0.7)) is None
    reason = unfit(entry, Filters(shows="a red disc", shows_score=0.8))
    assert reason == "it does not show 'a red disc' (score 0.70)"


def test_a_limit(recipe: Collect, tmp_path: Path, painter: Painter) -> None:
    outcome, tally = run(recipe, tmp_path / "out", painter, limit=4)
    assert tally.computed == 4
    assert sum(outcome.missing.values()) == 5


def test_references_and_masks_go_along(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    given = {"references": ["pictures/5.png"], "mask": {"box": [0.25, 0.5, 0.5, 1], "grow": 1}}
    outcome, _ = run(make_recipe("collect", **(BASE | given)), tmp_path / "out", painter)
    request = painter.requests[0]
    assert request.references[0].size == (48, 48)
    assert request.mask is not None
    assert request.mask.getbbox() == (11, 23, 25, 48)
    mask = outcome.members[0].entry.extra["mask"]
    assert (tmp_path / "out" / mask).is_file()
    assert isinstance(request.image, Picture)

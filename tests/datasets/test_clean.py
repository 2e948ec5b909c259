from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw

from overpaint.core.imaging import images
from overpaint.core.imaging.detections import Detection
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.datasets.clean import Cleaner, Cleaning, endings, unknown_labels
from overpaint.datasets.outcome import Outcome
from overpaint.datasets.recipes.recipe import Clean
from overpaint.datasets.sources.readers import items
from overpaint.datasets.tasks import complete, recipe_key, stale
from overpaint.datasets.vision.client import VisionModel
from overpaint.jobs import pool
from overpaint.jobs.book import Book, Tally
from overpaint.jobs.ledger import Ledger
from tests.datasets.conftest import COLOURS, Painter, noisy, tools
from tests.datasets.vision_server import serving

SOURCES = {"sources": [{"folder": "pictures"}]}


def run(
    recipe: Clean, out: Path, painter: Painter, limit: int | None = None, **others: Any
) -> tuple[Outcome, Tally]:
    plan = Cleaning(
        recipe=recipe, items=items(recipe.sources), key=recipe_key(recipe, {}), limit=limit
    )
    worker = Cleaner(recipe, tools(painter, **others), out)
    with Ledger(out / "ledger.jsonl") as ledger:
        book: Book[Any] = Book(
            ledger=ledger, complete=lambda entry: complete(out, entry), tally=Tally()
        )
        pool.run(plan.tasks(ledger.ids), worker, book, threads=3)
        return plan.outcome(ledger), book.tally


def find_colours(picture: Picture, words: str) -> Sequence[Detection]:
    """A detector: where the colour that the words name is."""
    wanted = COLOURS[next(name for name in COLOURS if name in words)]
    near = np.abs(np.asarray(picture.rgb, int) - wanted).max(axis=2) < 10
    if near.sum() < 20:
        return []
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return [Detection(box=tuple(map(float, box)), label=words, confidence=0.9)]


def find_colours_in(
    box: tuple[float, float, float, float], picture: Picture, words: str
) -> Sequence[Detection]:
    """A detector that gives that box for whatever it finds."""
    return [replace(each, box=box) for each in find_colours(picture, words)]


@pytest.fixture
def spotted(pictures: Path) -> Path:
    """Two of the six pictures have a red disc in the middle."""
    for number in (1, 4):
        image = noisy(number)
        ImageDraw.Draw(image).ellipse((14, 14, 34, 34), fill=COLOURS["red"])
        image.save(pictures / f"{number}.png")
    return pictures


RULES: dict[str, Any] = {
    "look": {"labels": ["red disc"], "by": "detector"},
    "rules": [{"when": "red disc", "do": "instruct", "prompt": "remove the {label} of {who}"}],
    "gate": {"gone": True, "kept_psnr": 40},
}


def test_exposure_moves_the_distribution(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}
    recipe = make_recipe("clean", **SOURCES, exact={"exposure": 0.7})
    outcome, _ = run(recipe, tmp_path / "out", painter)
    assert endings(outcome) == {"edited": 6}
    for row in outcome.members:
        assert abs(row.entry.extra["measures"]["brightness"] - 0.7) < 0.01
        assert row.entry.extra["before"]["brightness"] < 0.6
    assert painter.requests == []
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before


def test_a_limit_leaves_what_earlier_runs_made(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    recipe = make_recipe("clean", **SOURCES, exact={"exposure": 0.7})
    few, tally = run(recipe, tmp_path / "out", painter, limit=2)
    assert (len(few.members), tally.computed) == (2, 2)
    whole, _ = run(recipe, tmp_path / "out", painter)
    noisy(9).save(pictures / "00.png")
    more, tally = run(recipe, tmp_path / "out", painter, limit=2)
    assert tally.computed == 1
    assert {row.entry.id for row in more.members} > {row.entry.id for row in whole.members}


def test_only_what_was_found_is_edited(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    rules = RULES | {"rules": [{"when": "*", "do": "instruct", "prompt": "remove the {label}"}]}
    recipe = make_recipe("clean", **SOURCES, **rules)
    outcome, _ = run(recipe, tmp_path / "out", painter, detect=find_colours)
    assert [row.entry.reason for row in outcome.members] == [""] * 6
    assert endings(outcome) == {"edited": 2, "unchanged": 4}
    assert [request.prompt for request in painter.requests] == ["remove the red disc"] * 2
    for row in outcome.members:
        if row.is_made:
            made = images.decode(tmp_path / "out" / str(row.entry.picture))
            assert find_colours(made, "red disc") == []
    again, tally = run(recipe, tmp_path / "out", painter, detect=find_colours)
    assert (tally.computed, endings(again)) == (0, endings(outcome))


def test_where_the_edit_failed_the_original_stays(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path
) -> None:
    rules = RULES | {"rules": [{"when": "red disc", "do": "erase", "grow": 2}]}
    recipe = make_recipe("clean", **SOURCES, **rules)
    lazy = Painter(lambda _: True)
    outcome, _ = run(recipe, tmp_path / "out", lazy, detect=find_colours)
    assert endings(outcome) == {"edit failed": 2, "unchanged": 4}
    failed = [row for row in outcome.members if row.entry.extra["ending"] == "edit failed"]
    assert {row.entry.reason for row in failed} == {"nothing changed; still there: red disc"}
    assert all(row.entry.picture is None for row in failed)
    assert lazy.requests[0].model == "erase"
    assert lazy.requests[0].mask is not None
    assert lazy.requests[0].mask.getbbox() == (12, 12, 37, 37)


def test_an_edit_is_tried_again_with_other_seeds(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path
) -> None:
    rules = RULES | {
        "rules": [{"when": "red disc", "do": "instruct", "prompt": "remove the {label}"}],
        "gate": {"gone": True, "tries": 3},
    }
    recipe = make_recipe("clean", **SOURCES, **rules)
    tried: dict[str, list[int | None]] = {}

    def lazy_twice(request: EditRequest) -> bool:
        seeds = tried.setdefault(request.image.sha256, [])
        seeds.append(request.seed)
        return len(seeds) < 3

    outcome, _ = run(recipe, tmp_path / "out", Painter(lazy_twice), detect=find_colours)
    edited = [row.entry for row in outcome.members if row.entry.extra["ending"] == "edited"]
    assert [entry.reason for entry in edited] == ["", ""]
    assert [len(set(seeds)) for seeds in tried.values()] == [3, 3]
    assert {entry.seed for entry in edited} == {seeds[-1] for seeds in tried.values()}

    never = Painter(lambda _: True)
    outcome, _ = run(recipe, tmp_path / "never", never, detect=find_colours)
    assert endings(outcome) == {"edit failed": 2, "unchanged": 4}
    assert len(never.requests) == 6


def test_an_instruction_can_be_kept_to_what_was_found(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    rule = {"when": "*", "do": "instruct", "prompt": "remove the {label}", "within": 4}
    found_too_small = partial(find_colours_in, (20, 20, 26, 26))
    recipe = make_recipe("clean", **SOURCES, **RULES | {"rules": [rule], "gate": {}})
    outcome, _ = run(recipe, tmp_path / "out", painter, detect=found_too_small)
    made = [row for row in outcome.members if row.is_made]
    assert len(made) == 2
    for row in made:
        before = images.decode(row.task.item.image.read()).rgb
        after = images.decode(tmp_path / "out" / str(row.entry.picture)).rgb
        box = ImageChops.difference(before, after).getbbox()
        assert box is not None
        assert box[0] >= 16
        assert max(box) <= 30
        assert after.getpixel((23, 23)) == before.getpixel((0, 0))
    assert all(request.mask is None for request in painter.requests)


def test_a_failed_edit_can_leave_the_picture_out(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path
) -> None:
    rules = RULES | {
        "rules": [{"when": "red disc", "do": "erase"}],
        "gate": {"gone": True, "failed": "reject"},
    }
    recipe = make_recipe("clean", **SOURCES, **rules)
    lazy = Painter(lambda _: True)
    outcome, _ = run(recipe, tmp_path / "out", lazy, detect=find_colours)
    assert len(outcome.members) == 4
    assert [each.entry.status for each in outcome.rejected] == ["rejected"] * 2


def test_a_rule_can_reject(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    rules = RULES | {"rules": [{"when": "red disc", "do": "reject"}]}
    outcome, _ = run(
        make_recipe("clean", **SOURCES, **rules), tmp_path / "out", painter, detect=find_colours
    )
    assert len(outcome.members) == 4
    assert {each.reason for each in outcome.rejected} == {"it has red disc"}


def test_a_bad_picture_and_a_bad_template_fail_alone(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    (spotted / "6.png").write_bytes(b"no picture at all")
    outcome, tally = run(
        make_recipe("clean", **SOURCES, **RULES), tmp_path / "out", painter, detect=find_colours
    )
    assert len(outcome.members) == 4
    assert tally.statuses == {"done": 4, "failed": 3}
    assert sorted(each.entry.code for each in outcome.rejected) == [
        "invalid_image", "invalid_request", "invalid_request",
    ]  # fmt: skip
    assert any("{who}" in each.reason for each in outcome.rejected)


def test_duplicates_are_kept_where_the_filter_is_off(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    (pictures / "copy.png").write_bytes((pictures / "2.png").read_bytes())
    keys = {"exact": {"exposure": 0.5}, "filters": {"duplicates": None}}
    outcome, _ = run(make_recipe("clean", **SOURCES, **keys), tmp_path / "out", painter)
    assert len(outcome.members) == 7


def test_an_edit_of_the_whole_picture_passes(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path
) -> None:
    class Brighter(Painter):
        def _painted(self, request: EditRequest) -> Image.Image:
            return request.image.rgb.point(lambda value: min(255, value + 30))

    edit = {"edit": {"prompt": "make the picture brighter"}}
    outcome, _ = run(make_recipe("clean", **SOURCES, **edit), tmp_path / "out", Brighter())
    assert endings(outcome) == {"edited": 6}
    local = {"edit": {"prompt": "put a hat on the man"}}
    outcome, _ = run(make_recipe("clean", **SOURCES, **local), tmp_path / "local", Brighter())
    assert endings(outcome) == {"edit failed": 6}


def test_what_the_model_names_is_erased_by_rules(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    def answer(image: Image.Image, words: str) -> object:
        seen = find_colours(Picture(image), "red")
        names = "a shiny Red Disc" if "What is in" in words else "red disc"
        boxes = [[value / 48 for value in each.box] for each in seen]
        listed = [{"label": names, "bbox_2d": box} for box in boxes]
        return [*listed, {"label": "a tree", "bbox_2d": [0, 0, 0.3, 0.3]}]

    with serving(answer) as server:
        where = {"base_url": server.url, "model": "m"}
        recipe = make_recipe(
            "clean",
            **SOURCES,
            look={},
            rules=[{"when": "disc", "do": "erase", "grow": 0}],
            gate={"gone": True},
            vision=where,
        )
        vision = VisionModel(recipe.vision)
        outcome, _ = run(recipe, tmp_path / "out", painter, vision=vision)
    assert endings(outcome) == {"edited": 2, "unchanged": 4}
    assert {request.model for request in painter.requests} == {"erase"}
    assert outcome.members[0].entry.extra["found"] == {"a tree": 1}
    asked = [words for words in server.asked if "Which of the following" in words]
    assert len(asked) == 2  # the gate asks for what was erased
    assert unknown_labels(outcome) == {"a tree": 2}


def test_duplicates_and_issues_are_left_out(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    noisy(2).save(pictures / "copy.png")
    noisy(3, level=20).point(lambda value: value // 3).save(pictures / "dark.png")
    filters = {"filters": {"duplicates": 2, "issues": ["dark"]}}
    outcome, _ = run(make_recipe("clean", **SOURCES, **filters), tmp_path / "out", painter)
    assert len(outcome.members) == 6
    reasons = {each.task.item.name: each.reason for each in outcome.rejected}
    assert reasons == {
        "copy.png": "nearly the same as 2.png",
        "dark.png": "issues: dark",
    }


def test_what_was_found_can_be_outlined(
    make_recipe: Callable[..., Clean], spotted: Path, tmp_path: Path, painter: Painter
) -> None:
    def outline(picture: Picture, found: Sequence[Detection]) -> list[Detection]:
        mask = np.zeros((48, 48), bool)
        mask[20:24, 20:24] = True
        return [replace(each, mask=mask) for each in found]

    rules = RULES | {"rules": [{"when": "red disc", "do": "erase", "grow": 0}], "gate": {}}
    recipe = make_recipe("clean", **SOURCES, **rules)
    run(recipe, tmp_path / "out", painter, detect=find_colours, outline=outline)
    assert painter.requests[0].mask is not None
    assert painter.requests[0].mask.getbbox() == (20, 20, 24, 24)


@pytest.mark.parametrize(
    ("output", "suffixes"),
    [
        ({"pictures": "jpeg", "quality": 80}, {".jpg"}),
        ({"pictures": "input"}, {".webp", ".png"}),
    ],
)
def test_made_pictures_have_the_format_of_the_recipe(
    make_recipe: Callable[..., Clean],
    pictures: Path,
    tmp_path: Path,
    painter: Painter,
    output: dict[str, Any],
    suffixes: set[str],
) -> None:
    with Image.open(pictures / "1.png") as image:
        image.save(pictures / "1.webp", lossless=True)
    (pictures / "1.png").unlink()
    keys = {**SOURCES, "exact": {"exposure": 0.7}}
    first, _ = run(make_recipe("clean", **keys), tmp_path / "out", painter)
    recipe = make_recipe("clean", **keys, output=output)
    outcome, tally = run(recipe, tmp_path / "out", painter)
    assert tally.computed == 6
    made = [tmp_path / "out" / str(row.entry.picture) for row in outcome.members]
    assert {path.suffix for path in made} == suffixes
    assert all(path.is_file() for path in made)
    earlier = [tmp_path / "out" / str(row.entry.picture) for row in first.members]
    assert set(stale(tmp_path / "out", {row.entry.id for row in outcome.members})) == set(earlier)


def test_a_picture_that_does_not_fit_the_format_fails_alone(
    make_recipe: Callable[..., Clean], pictures: Path, tmp_path: Path, painter: Painter
) -> None:
    image = noisy(1)
    image.putalpha(100)
    image.save(pictures / "1.png")
    recipe = make_recipe("clean", **SOURCES, exact={"exposure": 0.7}, output={"pictures": "jpeg"})
    outcome, _ = run(recipe, tmp_path / "out", painter)
    assert len(outcome.members) == 5
    (failed,) = outcome.rejected
    assert (failed.entry.status, failed.entry.picture) == ("failed", None)
    assert "transparen" in failed.reason

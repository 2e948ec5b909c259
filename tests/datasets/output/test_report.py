"""The report in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from overpaint.datasets.outcome import Member
from overpaint.datasets.output.card import Facts
from overpaint.datasets.output.report import Reporter, worst
from overpaint.datasets.places import Item, Nowhere
from overpaint.datasets.recipes.recipe import Collect
from overpaint.datasets.tasks import Task
from overpaint.jobs.ledger import LedgerEntry
from tests.datasets.conftest import Painter
from tests.datasets.test_collect import BASE, run

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_it_opens_with_its_pictures(
    make_recipe: Callable[..., Collect], pictures: Path, tmp_path: Path
) -> None:
    nasty = "<script>document.title='no'</script>"
    given = {"name": "discs", "about": nasty, "filters": {"changed": [0.01, 1]}}
    recipe = make_recipe("collect", **(BASE | given))
    outcome, _ = run(recipe, tmp_path / "out", Painter(lambda r: int(r.seed or 0) % 4 == 0))
    path = Reporter(folder=tmp_path / "out", facts=Facts(recipe=recipe, models=())).write(outcome)
    told: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(path.as_uri())
        assert page.title() == "discs"
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) >= 27
        assert min(widths) > 0
        range_ = page.locator(".slider + input").first
        range_.fill("20")
        cut = "getComputedStyle(document.querySelector('.slider')).getPropertyValue('--cut')"
        assert page.evaluate(cut) == "20%"
        headings = page.locator("h2").all_text_contents()
        browser.close()
    assert told == []
    assert headings[0] == "Distribution against the target"
    assert "Left out" in headings


def test_the_least_sure_edits_are_the_worst() -> None:
    def row(name: str, changed: float, **extra: object) -> Member:
        item = Item(name, Nowhere(8, 8, "#000000"))
        task = Task(id=name, item=item, prompt="", seed=0, fields={})
        told = {"measures": {"changed": changed}, **extra}
        return Member(task, LedgerEntry(id=name, status="done", source=name, extra=told))

    kept = {"gate": {"kept_psnr": 100.0}}
    rows = [
        row("little", 0.1, **kept),
        row("much", 0.3, **kept),
        row("beside", 0.2, gate={"kept_psnr": 40.0}),
    ]
    assert [each.entry.id for each in worst(rows)] == ["beside", "much", "little"]
    scored = [row(str(score), 0.1, shows={"score": score}) for score in (0.9, 0.2)]
    assert [each.entry.id for each in worst(scored)] == ["0.2", "0.9"]

"""What an actor of Ray needs goes to another process as it is."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

from overpaint.apps.settings import Settings
from overpaint.apps.wiring.dataset_workers import Where, make_worker, model_names
from overpaint.datasets.clean import Cleaning
from overpaint.datasets.recipes import recipe
from overpaint.datasets.sources.readers import items
from tests.datasets.conftest import noisy


def test_worker_and_tasks_can_be_sent(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noisy(1).save(tmp_path / "in/a.png")
    asked = {"sources": [{"folder": "in"}], "exact": {"exposure": 0.6}, "model": "erase"}
    cleaning = recipe.parse(asked, "clean", base=tmp_path)
    assert isinstance(cleaning, recipe.Clean)
    assert model_names(cleaning) == []
    make = partial(make_worker, cleaning, Settings(), Where(), tmp_path)
    plan = Cleaning(recipe=cleaning, items=items(cleaning.sources), key="k")
    work, (task,) = pickle.loads(pickle.dumps((make, list(plan.tasks()))))
    entry = work()(task)
    assert entry.status == "done"
    assert abs(entry.extra["measures"]["brightness"] - 0.6) < 0.01
    assert (tmp_path / entry.picture).is_file()


def test_rules_name_their_models(tmp_path: Path) -> None:
    asked = {
        "sources": [{"folder": "in"}],
        "model": "kontext",
        "look": {"labels": ["a", "b", "c", "d"], "by": "detector"},
        "rules": [
            {"when": "a", "do": "erase"},
            {"when": "b", "do": "reject"},
            {"when": "c", "do": "instruct", "prompt": "x"},
            {"when": "d", "do": "inpaint", "model": "sd2"},
        ],
    }
    assert model_names(recipe.parse(asked, "clean", base=tmp_path)) == ["erase", "kontext", "sd2"]

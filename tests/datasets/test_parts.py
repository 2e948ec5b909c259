"""Every part of an edit is a key of a recipe, or its reason not to be one is stated."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.images import Picture
from overpaint.core.types import PARTS, EditRequest
from overpaint.datasets.clean import Cleaner
from overpaint.datasets.collect import Collector
from overpaint.datasets.recipes import recipe as recipe_
from overpaint.datasets.recipes.sections import COMMON, OWN
from overpaint.datasets.tasks import recipe_key
from overpaint.datasets.worker import Tools
from overpaint.engine import checking
from tests.conftest import box_mask, picture
from tests.every_part import FAMILIES_AND_PARTS, SIZE, as_files, sample

BASE = {"model": "m", "sources": [{"blank": {"width": 64, "height": 48}}]}
WORKERS = {"collect": Collector, "clean": Cleaner}
TASKS = {"collect": {"prompt": "a cat"}, "clean": {"edit": {"prompt": "a cat"}}}


def worker(task: str, folder: Path, **parts):
    recipe = recipe_.parse({**BASE, **TASKS[task], **parts}, task, base=folder)
    # As it goes to the actors of Ray.
    return WORKERS[task](pickle.loads(pickle.dumps(recipe)), Tools(edit=print), folder)


def test_a_part_is_a_key_or_left_out_with_a_reason():
    for part in PARTS:
        assert (part in COMMON) != bool(OWN.get(part.name))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("spec", "part"), FAMILIES_AND_PARTS)
def test_every_edit_has_what_the_recipe_gives_for_all(tmp_path, task, spec, part):
    if part.name in OWN:
        return
    made = worker(task, tmp_path, **{part.name: as_files(part, tmp_path)})
    request = made.request(Picture(picture(*SIZE)), "a cat", box_mask(*SIZE), 7)
    value, expected = getattr(request, part.name), sample(part)
    if part.kind == "pictures":
        assert [np.array_equal(*pair) for pair in zip(value, expected, strict=True)] == [True] * 2
    else:
        assert np.array_equal(value, expected)
    words = "a cat" if spec.need("prompt") != "refused" else ""
    request = EditRequest(
        image=request.image, prompt=words, mask=request.mask, **{part.name: value}
    )
    if spec.need(part.name) == "refused":
        with pytest.raises(InvalidRequest) as caught:
            checking.check(spec, request)
        assert caught.value.field == part.name
    else:
        checking.check(spec, request)


@pytest.mark.parametrize("part", COMMON, ids=lambda part: part.name)
def test_ids_depend_on_it(tmp_path, part):
    def key(**parts):
        return recipe_key(
            recipe_.parse({**BASE, "prompt": "x", **parts}, "collect", base=tmp_path), {}
        )

    value = as_files(part, tmp_path)
    first = key(**{part.name: value})
    assert first != key()
    if part.is_visual:
        name = value[0] if part.kind == "pictures" else value
        picture(*SIZE, seed=9).save(tmp_path / name)
        assert key(**{part.name: value}) != first
        (tmp_path / name).unlink()
        with pytest.raises(InvalidRequest, match="cannot be read"):
            key(**{part.name: value})
        with pytest.raises(InvalidRequest) as caught:
            worker("collect", tmp_path, **{part.name: value})
        assert caught.value.field == f"recipe.{part.name}"


def test_ids_of_earlier_versions_hold(tmp_path):
    (tmp_path / "face.png").write_bytes(b"\x89PNG\r\n\x1a\n a face")
    values = {
        "sources": [{"blank": {"width": 32, "height": 32}}],
        "prompt": "a {x}",
        "axes": {"x": ["cat", "dog"]},
        "negative_prompt": "fog",
        "references": ["face.png"],
        "options": {"eta": 1},
    }
    collect = recipe_.parse(values, "collect", base=tmp_path)
    models = {"m": {"family": "sd2"}}
    assert recipe_key(collect, models) == "c5adf22602f4356d5a7f2dd847ca8e3b"
    clean = recipe_.parse({**BASE, "exact": {"exposure": 0.5}}, "clean", base=tmp_path)
    assert recipe_key(clean, {}) == "dd025177d8d7e3a92058c53e09395321"

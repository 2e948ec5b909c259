from __future__ import annotations

from pathlib import Path

import pytest

from overpaint.core.errors import InvalidRequest
from overpaint.datasets.recipes import prompts, recipe
from overpaint.datasets.recipes.recipe import Clean, Collect

COLLECT = """
name: shapes
sources:
  - folder: ../grounds
    licence: CC0-1.0
prompt: a {colour} {shape}
axes:
  colour: [red, blue]
  shape: [circle, star, ring]
quota: 5
mask: {box: [0.1, 0.1, 0.9, 0.9]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_a_recipe_and_its_cells(tmp_path: Path) -> None:
    read = recipe.load(write(tmp_path, COLLECT), "collect")
    assert isinstance(read, Collect)
    assert read.prompt == ("a {colour} {shape}",)
    assert read.sources[0].folder == tmp_path / "../grounds"
    cells = prompts.cells(read)
    assert [cell.key for cell in cells[:2]] == [
        "colour=red, shape=circle",
        "colour=red, shape=star",
    ]
    assert len(cells) == 6
    assert {cell.quota for cell in cells} == {5}
    assert "a red circle" in prompts.samples(read, cells)


def test_every_key_can_be_overridden(tmp_path: Path) -> None:
    given = ["quota=2", "filters.duplicates=6", "sources.0.limit=3", "axes.shape=[ring]", "seed=9"]
    read = recipe.load(write(tmp_path, COLLECT), "collect", given)
    assert isinstance(read, Collect)
    assert (read.quota, read.filters.duplicates, read.sources[0].limit, read.seed) == (2, 6, 3, 9)
    assert len(prompts.cells(read)) == 2


def test_a_table_instead_of_axes(tmp_path: Path) -> None:
    text = COLLECT.replace(
        "axes:\n  colour: [red, blue]\n  shape: [circle, star, ring]\n",
        "table:\n  - {colour: red, shape: star, quota: 7}\n  - {colour: blue, shape: ring}\n",
    )
    cells = prompts.cells(recipe.load(write(tmp_path, text), "collect"))
    assert [(cell.key, cell.quota) for cell in cells] == [
        ("colour=red, shape=star", 7),
        ("colour=blue, shape=ring", 5),
    ]


@pytest.mark.parametrize(
    ("override", "field", "said"),
    [
        ("quotas=2", "recipe.quotas", "did you mean quota"),
        ("quota=0", "recipe.quota", "give at least 1"),
        ("mask.box=[0.9, 0, 0.1, 1]", "recipe.mask", "left, top, right, bottom"),
        ("sources.0.jsonl=x.jsonl", "recipe.sources.0", "exactly one of"),
        ("sources.4.limit=1", "set", "not a place in a list of 1"),
        ("quota.deep=1", "set", "no keys below a value"),
        ("filters.shows=a star", "recipe", "needs a vision model"),
        ("nonsense", "set", "not KEY=VALUE"),
        ("quota=[", "set", "not YAML"),
        ("axes.quota=[1]", "recipe", "cannot be called quota"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, override: str, field: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        recipe.load(write(tmp_path, COLLECT), "collect", [override])
    assert caught.value.field == field
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["- 1", "a: [", "\x00", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match="recipe"):
        recipe.load(write(tmp_path, text), "collect")


def test_words_stay_words(tmp_path: Path) -> None:
    text = COLLECT.replace("[red, blue]", "[no, on, true, 2024-01-01, 12:30, 007, 7, 1.5]")
    read = recipe.load(write(tmp_path, text), "collect", ["best_of=2", "output.sources=false"])
    assert isinstance(read, Collect)
    values = ["no", "on", "true", "2024-01-01", "12:30", "007", 7, 1.5]
    assert list(read.axes["colour"]) == values
    assert (read.best_of, read.output.sources) == (2, False)


def test_a_key_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'quota' is there twice"):
        recipe.load(write(tmp_path, COLLECT + "quota: 7\n"), "collect")


@pytest.mark.parametrize("override", ["axes.age=[old, young]", "prompt=a {shape}"])
def test_an_axis_that_no_prompt_uses(tmp_path: Path, override: str) -> None:
    with pytest.raises(InvalidRequest, match="no prompt uses the axis"):
        recipe.load(write(tmp_path, COLLECT), "collect", [override])


def test_too_many_cells(tmp_path: Path) -> None:
    many = "[" + ", ".join(map(str, range(400))) + "]"
    with pytest.raises(InvalidRequest, match="160000 cells"):
        recipe.load(
            write(tmp_path, COLLECT), "collect", [f"axes.colour={many}", f"axes.shape={many}"]
        )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "nothing to do"),
        ({"look": {"labels": ["cat"]}}, "look and rules go together"),
        (
            {
                "look": {"labels": ["cat"], "by": "detector"},
                "rules": [{"when": "cat", "do": "erase", "within": 4}],
            },
            "within is for do: instruct",
        ),
        (
            {"look": {"labels": ["cat"]}, "rules": [{"when": "cat", "do": "reject"}]},
            "add vision",
        ),
        (
            {
                "look": {"labels": ["cat"], "by": "detector"},
                "rules": [{"when": "cat", "do": "instruct"}],
            },
            "needs a prompt",
        ),
        (
            {
                "look": {"labels": ["cat"], "by": "detector"},
                "rules": [{"when": "dog", "do": "erase"}],
            },
            "'dog', which is none of look.labels: cat",
        ),
        (
            {"look": {"by": "detector"}, "rules": [{"when": "*", "do": "erase"}]},
            "give labels",
        ),
    ],
)
def test_what_cleaning_needs(tmp_path: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        recipe.parse({"sources": [{"folder": "a"}], **values}, "clean", base=tmp_path)


def test_templates_know_names_only(tmp_path: Path) -> None:
    assert prompts.fill("a {c} {0.__class__}", {"c": "red"}, field="f") == "a red {0.__class__}"
    with pytest.raises(InvalidRequest, match="known here are c"):
        prompts.fill("a {colour}", {"c": "red"}, field="f")


def test_the_same_cell_twice(tmp_path: Path) -> None:
    read = recipe.load(write(tmp_path, COLLECT), "collect", ["axes.colour=[red, red]"])
    with pytest.raises(InvalidRequest, match="twice"):
        prompts.cells(read)


@pytest.mark.parametrize("task", ["collect", "clean"])
def test_the_published_schema_is_the_models(task: str) -> None:
    import json

    published = Path(__file__).parents[3] / "docs" / "schemas" / f"{task}.schema.json"
    assert json.loads(published.read_text()) == recipe.schema(task), (
        f"overpaint {task} --schema > {published}"
    )


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "examples/recipes").glob("*")))
def test_the_examples_are_recipes(path: Path) -> None:
    task = path.name.partition("-")[0]
    read = recipe.load(path, task)
    assert isinstance(read, {"collect": Collect, "clean": Clean}[task])

"""The data-set card: counts, lineage, licences, and how much of it a model made."""

from __future__ import annotations

import json
from dataclasses import dataclass

from overpaint.core.languages import is_foreign
from overpaint.datasets.outcome import Outcome
from overpaint.datasets.recipes import languages
from overpaint.datasets.recipes.recipe import Clean, Recipe
from overpaint.datasets.scope import scope


@dataclass(frozen=True, kw_only=True)
class UsedModel:
    """A model that had a part in the pictures."""

    name: str
    revision: str
    licence: str
    commercial: bool
    reads_english_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card and the report say beside the outcome."""

    recipe: Recipe
    models: tuple[UsedModel, ...]

    def notes(self) -> list[str]:
        """Notes on licences, to be read before the pictures are used."""
        notes = []
        for model in self.models:
            if not model.commercial:
                notes.append(
                    f"{model.name} is under '{model.licence}', which is not for commercial use. "
                    "FLUX.1 [dev]'s also forbids to train a competing model on its outputs."
                )
            elif model.licence == "unknown":
                notes.append(f"The licence of {model.name} is not known; look it up.")
        unknown = sum(source.licence == "unknown" for source in self.recipe.sources)
        if unknown:
            notes.append(
                f"{unknown} of {len(self.recipe.sources)} sources state no licence; add `licence` "
                "to each."
            )
        return notes

    @property
    def licence(self) -> str:
        """The licence of the data set: the recipe's, else that of its sources."""
        if self.recipe.output.licence != "unknown":
            return self.recipe.output.licence
        licences = dict.fromkeys(source.licence for source in self.recipe.sources)
        return "unknown" if "unknown" in licences else " and ".join(licences)

    def assumptions(self) -> list[str]:
        """Assumptions of the run where the recipe leaves something open."""
        recipe, notes = self.recipe, []
        if isinstance(recipe, Clean) and recipe.gate.changed is None:
            edits = recipe.edit is not None or any(rule.do != "reject" for rule in recipe.rules)
            notes += [scope(recipe).note()] if edits else []
        strange = [words for words in languages.templates(recipe) if is_foreign(words)]
        english = [model.name for model in self.models if model.reads_english_only]
        if strange and english and recipe.rewrite is None:
            notes.append(
                f"{', '.join(english)} reads English, and '{strange[0][:60]}' is in other letters; "
                "write it in English, or let the server of `vision` do so with rewrite: english."
            )
        return notes


def card(facts: Facts, outcome: Outcome) -> str:
    """The card as Markdown, with the front matter that the Hugging Face hub reads."""
    recipe = facts.recipe
    total = len(outcome.members)
    generated = made_by_model(outcome)
    lines = [
        "---",
        f"pretty_name: {json.dumps(recipe.name)}",
        "license: other",
        f"license_name: {json.dumps(facts.licence)}",
        f"size_categories: [{_size(total)}]",
        f"tags: [image, overpaint{', synthetic' if generated else ''}]",
        "---",
        "",
        f"# {_plain(recipe.name)}",
        "",
        *([_plain(recipe.about), ""] if recipe.about else []),
        f"{total} pictures, {generated} of them ({_share(generated, total)}) made or edited by a "
        "generative model. Their files say so in XMP (IPTC digital source type), unless "
        "that was switched off in the settings.",
        "",
        "| | pictures |",
        "| --- | --- |",
        f"| kept | {total} |",
        *(f"| {status} | {count} |" for status, count in sorted(outcome.statuses().items())),
        f"| good, beyond the quota | {outcome.surplus} |",
        "",
    ]
    if outcome.target:
        lines += _target(outcome)
    lines += _lineage(facts)
    return "\n".join(lines)


def made_by_model(outcome: Outcome) -> int:
    """Pictures that an edit by a model is in."""
    return sum(bool(row.entry.recipe) and row.is_made for row in outcome.members)


def by_cell(outcome: Outcome) -> dict[str, int]:
    """Kept pictures by cell."""
    counts = dict.fromkeys(outcome.target, 0)
    for row in outcome.members:
        key = row.entry.extra.get("key", "all")
        counts[key] = counts.get(key, 0) + 1
    return counts


def _target(outcome: Outcome) -> list[str]:
    counts = by_cell(outcome)
    return [
        "## Distribution",
        "",
        "| cell | wanted | there |",
        "| --- | --- | --- |",
        *(f"| {_plain(key)} | {want} | {counts[key]} |" for key, want in outcome.target.items()),
        "",
        "These are the labels that were asked for; nothing was inferred from faces.",
        "",
    ]


def _lineage(facts: Facts) -> list[str]:
    recipe = facts.recipe
    return [
        "## Lineage",
        "",
        "| model | revision | licence | commercial use |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_plain(each.name)} | {_plain(each.revision) or '–'} | {_plain(each.licence)} | "
            f"{'as the licence says' if each.commercial else 'no'} |"
            for each in facts.models
        ),
        "",
        "| source | licence |",
        "| --- | --- |",
        *(f"| {source.kind} | {_plain(source.licence)} |" for source in recipe.sources),
        "",
        *(f"- {_plain(note)}" for note in facts.notes()),
        "",
        "Each row of the metadata names its source, prompt, seed, model, revision and options. "
        "`recipe.json` is the recipe, `rejected.jsonl` what was left out and why.",
        "",
    ]


def _plain(text: str) -> str:
    """Words of others as plain text in Markdown."""
    flat = " ".join(text.split())
    for mark in "\\`*_{}[]<>|#":
        flat = flat.replace(
            mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark]
        )
    return flat


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _size(count: int) -> str:
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if count < limit:
            return name
    return "100K<n<1M" if count < 1_000_000 else "n>1M"

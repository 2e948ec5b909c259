"""The safety policy and the marks of results, as the settings describe them."""

from __future__ import annotations

from overpaint.apps.settings import Settings
from overpaint.core.provenance import Marking
from overpaint.safety import blocklist
from overpaint.safety.policy import Policy, TextChecker


def policy(settings: Settings) -> Policy:
    """The policy, with its checkers made.

    Raises:
        InvalidSettings: a file of the settings cannot be read.
    """
    table = settings.safety
    if table.effective_mode == "off":
        return Policy.off()
    texts: list[TextChecker] = []
    if table.blocklist is not None:
        texts.append(blocklist.load(table.blocklist, table.languages))
    return Policy(
        mode=table.effective_mode,
        thresholds=table.all_thresholds(),
        text_checkers=texts,
    )


def marking(settings: Settings) -> Marking:
    """What the files of results say about themselves."""
    table = settings.provenance
    return Marking(source_type=table.mark, recipe=table.recipe, prompt=table.prompt)

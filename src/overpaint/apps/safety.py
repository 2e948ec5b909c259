"""The safety policy that the settings describe."""

from __future__ import annotations

from overpaint.apps.settings import Settings
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

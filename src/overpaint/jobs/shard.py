"""A share of a batch's rows, for machines that work on one batch without knowing each other."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from overpaint.core.errors import UnsupportedOption

_FORM = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of about the same size.

    Attributes:
        number: from 1.
        count: all shares together have every row once.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """'2/3' is the second of three.

        Raises:
            UnsupportedOption: it is nothing of that form.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UnsupportedOption(
                f"'{text}' is not a share of the rows; write 2/3 for the second of three",
                field="shard",
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def ledger(self) -> str:
        """Name of its ledger."""
        return f"ledger-{self.number}-of-{self.count}.jsonl"

    def has(self, key: str) -> bool:
        """Whether what has this key is in it."""
        digest = hashlib.sha256(key.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

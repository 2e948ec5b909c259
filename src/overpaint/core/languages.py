"""In which letters words are written: most text encoders were trained on English alone."""

from __future__ import annotations

import unicodedata


def is_foreign(words: str) -> bool:
    """Whether there is a letter in them that is not Latin."""
    return any(
        each.isalpha() and not unicodedata.name(each, "LATIN").startswith("LATIN") for each in words
    )

from __future__ import annotations

import pytest

from overpaint.core.languages import is_foreign


@pytest.mark.parametrize(
    ("words", "expected"),
    [("a café in Łódź, 50 %", False), ("빨간 원", True), ("ein роза", True), ("赤い丸", True)],
)
def test_letters(words: str, expected: bool) -> None:
    assert is_foreign(words) is expected

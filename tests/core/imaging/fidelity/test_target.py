"""What an instruction names, for a segmenter to look for."""

from __future__ import annotations

import pytest

from overpaint.core.imaging.fidelity.target import subject


@pytest.mark.parametrize(
    ("instruction", "thing"),
    [
        ("Remove the dog", "the dog"),
        ("replace the dog with a cat", "the dog"),
        ("make the woman's coat red.", "the woman's coat red"),
        ("add a hat to the man on the left", "the man"),
        ("Please put a vase on the table", "the table"),
        ("add a moon", None),
        ("delete all cars; keep the lorries", "all cars"),
        ("remove people", "people"),
        ("snow", "snow"),
        ("move the cup to the left", None),
        ("", None),
    ],
)
def test_the_thing_is_found_among_the_words(instruction, thing):
    assert subject(instruction) == thing

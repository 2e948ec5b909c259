from __future__ import annotations

import pytest

from overpaint.datasets.recipes import labels


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("A Cat", "cat"),
        ("the traffic_cones.", "traffic cone"),
        ("Boxes", "box"),
        ("cherries", "cherry"),
        ("people", "person"),
        ("glass", "glass"),
        ("a bus", "bus"),
        ("glasses", "glasses"),
        ("date-stamp", "date stamp"),
        ("고양이", "고양이"),
    ],
)
def test_normal(label: str, expected: str) -> None:
    assert labels.normal(label) == expected


def test_match() -> None:
    assert labels.match("Traffic cones", ["a dog", "a traffic cone"]) == "a traffic cone"
    assert labels.match("cone", ["a traffic cone"]) is None


@pytest.mark.parametrize(
    ("when", "label", "is_open", "expected"),
    [
        ("*", "anything", False, True),
        ("a cone", "an orange cone", True, True),
        ("a cone", "an orange cone", False, False),
        ("dog", "dog bowl", True, False),
        ("*stamp*", "the date stamp", False, True),
        ("Watermark", "watermarks", False, True),
    ],
)
def test_fits(when: str, label: str, is_open: bool, expected: bool) -> None:
    assert labels.fits(when, label, is_open=is_open) is expected

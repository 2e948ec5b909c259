"""What an edit shows while it runs."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from overpaint.apps.cli import console
from overpaint.core.types import Progress


@pytest.mark.parametrize(
    ("is_even", "time"), [(True, "-:--:-- left"), (False, r"\d:\d\d:\d\d so far")]
)
def test_the_time_left_is_shown_only_where_steps_are_even(monkeypatch, is_even, time):
    screen = io.StringIO()
    shown = Console(file=screen, force_terminal=True, color_system=None, width=100)
    monkeypatch.setattr(console, "messages", lambda: shown)
    with console.StepBar(hidden=False) as bar:
        bar(Progress(step=1, total=3, preview=None, is_even=is_even))
    assert re.search(rf"1/3 steps, {time}", screen.getvalue())

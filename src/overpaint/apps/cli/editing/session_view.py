"""Sessions on the terminal: lists, trees, measures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from overpaint.apps.cli import console

if TYPE_CHECKING:
    from overpaint.sessions.types import Session, Summary, Turn

_VERDICTS = {
    "done": "",
    "nothing_changed": " · nothing changed",
    "everything_changed": " · everything changed",
}
_MEASURES = {
    "changed": ("pixels that differ", "{:.1%}"),
    "region": ("clearly changed, or masked", "{:.1%}"),
    "kept_identical": ("rest: identical", "{:.1%}"),
    "kept_psnr": ("rest: PSNR (99 = identical)", "{:.1f} dB"),
    "kept_ssim": ("rest: SSIM", "{:.4f}"),
    "colour_shift": ("rest: colour shift", "{:.2f}"),
    "sharpness": ("rest: sharpness", "× {:.2f}"),
    "similarity": ("similarity of the whole", "{:.3f}"),
}


ID_SHOWN = 10
"""First characters of an id, which commands take as well: a line fits 80 columns."""


def tell(session: Session, *, as_json: bool) -> None:
    """A session in one line."""
    if as_json:
        console.print_json(_session(session))
        return
    turn = session.turn()
    sys.stdout.write(f"{session.id}\n")
    console.say(f"{session.name}: at turn {turn.id} of {len(session.turns) - 1}, {_about(turn)}")


def list_(summaries: Sequence[Summary], *, as_json: bool) -> None:
    """All sessions."""
    if as_json:
        console.print_json({"sessions": [vars(each) for each in summaries]})
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("name", overflow="fold")
    for column in ("id", "turns", "at", "MB", "begun", "changed"):
        table.add_column(column, no_wrap=True)
    for each in summaries:
        dates = (time[:16].replace("T", " ") for time in (each.created, each.updated))
        numbers = (str(each.turns - 1), each.head, f"{each.bytes / 1e6:.1f}")
        table.add_row(escape(each.name), each.id[:ID_SHOWN], *numbers, *dates)
    _out().print(table)


def tell_pruned(summaries: Sequence[Summary], freed_bytes: int | None, *, as_json: bool) -> None:
    """Sessions that were deleted, and the bytes of all files that went; None = only looked at."""
    if as_json:
        ids = [each.id for each in summaries]
        console.print_json(
            {"sessions": ids, "freed_bytes": freed_bytes, "deleted": freed_bytes is not None}
        )
        return
    for each in summaries:
        sys.stdout.write(f"{each.id}\n")
    size = sum(each.bytes for each in summaries) if freed_bytes is None else freed_bytes
    count = "1 session" if len(summaries) == 1 else f"{len(summaries)} sessions"
    ending = (
        "would be deleted, which frees at most" if freed_bytes is None else "deleted, which freed"
    )
    console.say(f"{count} {ending} {size / 1e6:.1f} MB")


def log(session: Session, *, as_json: bool) -> None:
    """The tree of turns."""
    if as_json:
        console.print_json(_session(session))
        return
    root = Tree(f"[bold]{escape(session.name)}[/]  [dim]{session.id}[/]")
    branches: dict[str | None, Tree] = {None: root}
    for turn in session.turns:
        mark = " [green]◀ here[/]" if turn.id == session.head else ""
        text = f"{turn.id}  {escape(_about(turn))}{mark}"
        branches[turn.id] = branches[turn.parent].add(text)
    _out().print(root)


def tell_turn(session: Session, turn: Turn, *, as_json: bool) -> None:
    """One turn with its measures and warnings."""
    if as_json:
        console.print_json({"session": session.id, "revision": session.revision, **turn.as_json()})
        return
    sys.stdout.write(f"{turn.id}\n")
    console.say(f"{session.name}, turn {turn.id}: {_about(turn)}")
    if turn.candidates > 1 and turn.candidate_of is None:
        others = [each.id for each in session.turns if each.candidate_of == turn.id]
        console.say(f"the best of {turn.candidates}; the others are {', '.join(others)}")
    if turn.seed is not None:
        console.say(f"{turn.model}, seed {turn.seed}", style="dim")
    if turn.measures is not None:
        _print_measures(
            "compared with",
            {"before": turn.measures["previous"], "original": turn.measures["original"]},
            console.messages(),
        )
    console.warn(turn.warnings)


def tell_areas(areas: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print what a turn changed, area by area."""
    if as_json:
        console.print_json({"areas": areas})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("area", "left, top, right, bottom", "of the picture", "difference", ""):
        table.add_column(column, no_wrap=True)
    for number, each in enumerate(areas, start=1):
        box = ", ".join(str(side) for side in each["box"])
        is_kept = "kept" if each["kept"] else "put back"
        share, difference = f"{each['share']:.2%}", f"{each['difference']:.0f}"
        table.add_row(str(number), box, share, difference, is_kept)
    _out().print(table)


def tell_measures(measures: Mapping[str, Any], turns: str, *, as_json: bool) -> None:
    """A comparison of two turns, which `turns` names."""
    if as_json:
        console.print_json(dict(measures))
    else:
        _print_measures("measure", {turns: measures}, _out())


def _print_measures(head: str, beside: Mapping[str, Mapping[str, Any]], where: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(head)
    for name in beside:
        table.add_column(name, justify="right")
    for key, (label, shape) in _MEASURES.items():
        values = [each[key] for each in beside.values()]
        if any(value is not None for value in values):
            table.add_row(label, *("–" if v is None else shape.format(v) for v in values))
    where.print(table)


def _about(turn: Turn) -> str:
    words = turn.prompt or {
        "original": "the original",
        "erase": "erased",
        "extend": "extended",
    }.get(turn.kind, turn.kind)
    again = " (from the original)" if turn.from_original else ""
    other = f" (candidate of {turn.candidate_of})" if turn.candidate_of else ""
    return f"{words}{again}{other}{_VERDICTS[turn.verdict]}"


def _session(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "name": session.name,
        "created": session.created,
        "updated": session.updated,
        "revision": session.revision,
        "head": session.head,
        "undo": session.undo,
        "redo": session.redo,
        "turns": [turn.as_json() for turn in session.turns],
    }


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True)

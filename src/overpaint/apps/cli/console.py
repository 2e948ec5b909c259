"""What commands share: messages, errors with exit codes, and the progress of an edit.

Exit codes: 0 done; 1 our or the machine's fault; 2 the input is at fault; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from overpaint.apps.cli import INTERRUPTED, interrupt
from overpaint.apps.cli.interrupt import Interrupt
from overpaint.core.errors import (
    Cancelled,
    ContentBlocked,
    InvalidRequest,
    InvalidSettings,
    OverpaintError,
)

if TYPE_CHECKING:
    from overpaint.core.types import Progress

OUR_FAULT = 1
INPUT_AT_FAULT = 2

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for programs.")]

_tracebacks = False


def show_tracebacks(is_on: bool) -> None:
    """Whether errors show where they arose (`--debug`)."""
    global _tracebacks
    _tracebacks = is_on


def messages() -> Console:
    """The console for people: the standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """One line for people."""
    messages().print(escape(text), style=style or None)


def warn(sentences: Iterable[str]) -> None:
    """Sentences that must not be missed."""
    for sentence in sentences:
        say(f"Warning: {sentence}", style="bold yellow")


def print_json(value: Any) -> None:
    """One JSON object for programs, on the standard output.

    In ASCII where that is not UTF-8: JSON's own escapes then stand for what it does not have.
    """
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not is_unicode, default=str)
    sys.stdout.write(text + "\n")


@contextmanager
def reporting_errors(*, as_json: bool) -> Iterator[None]:
    """Turn what a command raises into one sentence (or JSON object) and an exit code."""
    try:
        with Interrupt():
            yield
    except (Cancelled, KeyboardInterrupt):
        interrupt.settle()
        cancellation = Cancelled("Cancelled.")
        _report(cancellation, cancellation.message, as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    except OverpaintError as error:
        _show_traceback()
        _report(error, f"Error: {error}", as_json=as_json)
        at_fault = isinstance(error, InvalidRequest | ContentBlocked)
        raise typer.Exit(INPUT_AT_FAULT if at_fault else OUR_FAULT) from None
    except BrokenPipeError:
        raise typer.Exit(OUR_FAULT) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        _show_traceback()
        unexpected = OverpaintError(
            f"unexpected {type(error).__name__}: {error}; this is a bug in Overpaint: please "
            "report it with the output of OVERPAINT_DEBUG=1"
        )
        _report(unexpected, f"Error: {unexpected}", as_json=as_json)
        raise typer.Exit(OUR_FAULT) from None


def _report(error: OverpaintError, sentence: str, *, as_json: bool) -> None:
    if not as_json:
        say(sentence, style="red")
        return
    details = {name: value for name, value in vars(error).items() if name != "message"}
    print_json({"error": {"code": error.code, "message": error.message, "field": None, **details}})


def _show_traceback() -> None:
    if _tracebacks or _debug_setting():
        messages().print_exception(show_locals=False)


def _debug_setting() -> bool:
    from overpaint.apps import settings as settings_

    try:
        return settings_.load().debug
    except InvalidSettings:
        return False


@contextmanager
def waiting(text: str, *, hidden: bool) -> Iterator[None]:
    """A spinner beside the name of the work; silent without a terminal.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed before, or in the block, and lost.
    """
    console = messages()
    is_visible = console.is_terminal and not hidden
    with Interrupt(), console.status(f"{escape(text)} …") if is_visible else nullcontext():
        yield


class StepBar:
    """A bar of steps; silent without a terminal.

    It shows the time left, or the time that has passed where steps are too uneven to tell.
    """

    def __init__(self, *, hidden: bool) -> None:
        self._console = messages()
        self._is_hidden = hidden or not self._console.is_terminal
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if self._bar is None:
            self._begin(progress)
        self._bar.update(self._task, completed=progress.step)

    def _begin(self, first: Progress) -> None:
        from rich import progress

        time = progress.TimeRemainingColumn() if first.is_even else progress.TimeElapsedColumn()
        self._bar = progress.Progress(
            progress.TextColumn("[progress.description]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("steps,"),
            time,
            progress.TextColumn("left" if first.is_even else "so far"),
            console=self._console,
            transient=True,
            disable=self._is_hidden,
        )
        self._bar.start()
        self._task = self._bar.add_task("Editing", total=first.total)

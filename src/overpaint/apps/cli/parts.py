"""The parts of an edit as arguments of commands, made from their table.

A command is a function with one parameter `values`; `with_arguments` gives it the arguments that it
is to have: a new part of an edit is an option of every command that does not leave it out.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from overpaint.core.errors import InvalidMask, InvalidRequest
from overpaint.core.parts import Part
from overpaint.core.types import PARTS

FLAGS: Mapping[str, tuple[str, ...]] = {
    "mask": ("--mask", "-m"),  # the option that is typed most
    "negative_prompt": ("--negative",),  # what users of diffusion models call it
    "references": ("--reference",),  # each names one picture
    "copy_from": ("--from", "--copy-from"),  # `--from` is older, and short
    "num_images": ("-n", "--num-images"),  # as other tools count
    "model": ("--model", "-M"),  # -m is the mask
}
"""Names on the command line that do not follow from the part's own, and why."""

_TYPES: Mapping[str, tuple[Any, str | None]] = {
    "picture": (Path | None, "FILE"),
    "pictures": (list[Path] | None, "FILE"),
    "mask": (list[Path] | None, "MASK"),
    "borders": (str | None, "JSON"),
    "text": (str | None, "TEXT"),
    "name": (str | None, "NAME"),
    "number": (int | None, "N"),
    "choice": (str | None, None),
}
"""Type and metavar of an option by the kind of its part."""

_REPEATED = {
    "pictures": "; repeatable.",
    "mask": "; several are joined.",
    "text": "; @FILE reads it from a file.",
}
"""Text that the help of an option adds to its part's own, by the kind of the part."""


def flags_of(name: str) -> tuple[str, ...]:
    """The flags of a part on the command line, the one to show first."""
    return FLAGS.get(name, (f"--{name.replace('_', '-')}",))


def flag_of(name: str) -> str:
    """The name of a part in messages of the command line."""
    return next(flag for flag in flags_of(name) if flag.startswith("--"))


def options_of_parts(
    leave_out: Mapping[str, str], *, flags: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Any]:
    """Annotations of options by the names of their parts.

    Args:
        leave_out: names of parts that are not options of the command, and why.
        flags: other names of some, for this command.
    """
    names = {part.name for part in PARTS}
    assert set(leave_out) <= names, f"no parts: {set(leave_out) - names}"
    return {
        part.name: _option(part, (flags or {}).get(part.name, flags_of(part.name)))
        for part in PARTS
        if part.name not in leave_out and part.kind in _TYPES
    }


def _option(part: Part, flags: Sequence[str]) -> Any:
    kind, metavar = _TYPES[part.kind]
    metavar = "|".join(part.choices) or metavar
    text = part.help.rstrip(".") + _REPEATED.get(part.kind, ".")
    return Annotated[kind, typer.Option(*flags, metavar=metavar, help=text)]


def ordered(options: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Options in this order; what it does not name stands where it has '…'."""
    rest = [name for name in options if name not in order]
    names = [each for name in order for each in (rest if name == "…" else [name])]
    return {name: options[name] for name in names if name in options}


def with_arguments(
    arguments: Mapping[str, Any], options: Mapping[str, Any]
) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """Make a command of a function that takes all values by name.

    Args:
        arguments: annotations of what a caller must name, in their order.
        options: annotations of what may be left out: then it is None, or False for a switch.
    """

    def command(function: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            function(values)

        annotations = {**arguments, **options}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=annotation,
                    default=inspect.Parameter.empty if name in arguments else _default(annotation),
                )
                for name, annotation in annotations.items()
            ]
        )
        run.__annotations__ = annotations
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return run

    return command


def _default(annotation: Any) -> Any:
    return False if annotation.__origin__ is bool else None


def take_parts(values: dict[str, Any]) -> dict[str, Any]:
    """Remove the parts from a command's values and return them."""
    return {part.name: values.pop(part.name) for part in PARTS if part.name in values}


def files_of(parts: Mapping[str, Any]) -> list[Path]:
    """All files that the values of parts name."""
    values = [parts[part.name] for part in PARTS if part.is_visual and parts.get(part.name)]
    several = [each if isinstance(each, list) else [each] for each in values]
    return [Path(each) for each in chain.from_iterable(several) if not isinstance(each, bytes)]


def read_parts(parts: Mapping[str, Any], size: tuple[int, int] | None = None) -> dict[str, Any]:
    """The values of parts with texts read from the files that they name, and masks joined.

    Args:
        parts: by name.
        size: (width, height) of the picture; files of annotations need it to be joined.

    Raises:
        InvalidRequest: a text's file cannot be read.
        InvalidMask: a mask cannot be read, or masks have different sizes.
    """
    kinds = {part.name: part.kind for part in PARTS}
    values = dict(parts)
    for name, value in parts.items():
        if kinds.get(name) == "text" and isinstance(value, str):
            values[name] = _text(value, name)
        elif kinds.get(name) == "mask" and isinstance(value, list):
            reads = values.pop("mask_is", None) if name == "mask" and len(value) > 1 else None
            values[name] = _join_masks(value, name, size, reads)
    return values


def _text(value: str, name: str) -> str:
    """The words, or those of the file after '@'; '@@' is a plain '@'."""
    if not value.startswith("@") or value.startswith("@@"):
        return value.removeprefix("@") if value.startswith("@@") else value
    try:
        return Path(value[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidRequest(
            f"{value[1:]} cannot be read: {reason}; for words that begin with @ write @@",
            field=name,
        ) from error


def _join_masks(
    paths: Sequence[Path], name: str, size: tuple[int, int] | None, reads: Any
) -> Path | bytes | None:
    """One mask of several files: white where any is."""
    if len(paths) < 2:
        return paths[0] if paths else None
    from PIL import ImageChops

    from overpaint.engine.intake import as_mask

    first, *others = (as_mask(path, name, size=size, reads=reads) for path in paths)
    for path, other in zip(paths[1:], others, strict=True):
        if other.size != first.size:
            raise InvalidMask(
                f"{path} is {other.width}x{other.height} pixels and {paths[0]} "
                f"{first.width}x{first.height}; masks of one picture have its size",
                field=name,
            )
        first = ImageChops.lighter(first, other)
    file = io.BytesIO()
    first.save(file, "PNG")
    return file.getvalue()

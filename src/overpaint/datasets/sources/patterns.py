"""Files that a pattern names: a file, a folder, `*`, `?`, and runs such as {000000..000009}."""

from __future__ import annotations

import re
from pathlib import Path

from overpaint.core.errors import InvalidRequest

MOST_FILES = 100_000

_RUN = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")


def files(pattern: Path, suffix: str, field: str) -> list[Path]:
    """The files that a pattern names, sorted by name.

    Args:
        pattern: a file; a folder, whose files of that suffix count, subfolders included; or a
            pattern with `*`, `?`, `[…]`, `**`, `{a,b}` and `{000000..000009}`.
        suffix: of files in folders, such as '.tar'.
        field: for errors.

    Raises:
        InvalidRequest: there is no such file, or a file of a run is missing.
    """
    if pattern.is_dir():
        paths = sorted(path for path in pattern.rglob(f"*{suffix}") if path.is_file())
        if not paths:
            raise InvalidRequest(f"{pattern} has no {suffix} files", field=field)
        return paths
    if pattern.is_file():  # whatever marks its name has
        return [pattern]
    names = expanded(str(pattern), field)
    paths = [path for name in names for path in _matches(name, is_listed=len(names) > 1)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InvalidRequest(
            f"{missing[0]} is not there ({len(missing)} of {len(paths)} files are missing)",
            field=field,
        )
    if not paths:
        raise InvalidRequest(f"{pattern} is not there, or matches no file", field=field)
    return list(dict.fromkeys(paths))


def expanded(pattern: str, field: str) -> list[str]:
    """The names that runs and choices in braces stand for, in their order.

    Raises:
        InvalidRequest: they are too many, or a run goes backwards.
    """
    match = _RUN.search(pattern) or _CHOICE.search(pattern)
    if match is None:
        return [pattern]
    if match.re is _RUN:
        low, high = int(match[1]), int(match[2])
        if not 0 <= high - low < MOST_FILES:
            raise InvalidRequest(
                f"{match[0]} is not a sequence of 1 to {MOST_FILES:,} files, the smaller "
                "number first",
                field=field,
            )
        values = [str(number).zfill(len(match[1])) for number in range(low, high + 1)]
    else:
        values = match[1].split(",")
    names = [
        name
        for value in values
        for name in expanded(pattern[: match.start()] + value + pattern[match.end() :], field)
    ]
    if len(names) > MOST_FILES:
        raise InvalidRequest(f"{pattern} names more than {MOST_FILES:,} files", field=field)
    return names


def _matches(name: str, *, is_listed: bool) -> list[Path]:
    """Files of a pattern without braces; one that braces list must be there."""
    if not set(name) & set("*?["):
        return [Path(name)] if is_listed or Path(name).is_file() else []
    path = Path(name)
    fixed = 0
    while fixed < len(path.parts) and not set(path.parts[fixed]) & set("*?["):
        fixed += 1
    root = Path(*path.parts[:fixed]) if fixed else Path()
    return sorted(each for each in root.glob(str(Path(*path.parts[fixed:]))) if each.is_file())

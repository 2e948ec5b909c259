"""A session: a tree of turns that grows from one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from overpaint.core.errors import InvalidRequest, SessionConflict, SessionNotFound
from overpaint.core.geometry import Size
from overpaint.core.imaging.borders import Borders
from overpaint.core.imaging.codecs.formats import FileFormat
from overpaint.core.parts import Part
from overpaint.core.types import PARTS

TurnKind = Literal["original", "edit", "inpaint", "erase", "extend"]
TurnVerdict = Literal["done", "nothing_changed", "everything_changed"]

TurnInput = str | tuple[str, ...] | Mapping[str, int]
"""A part of an edit as a turn keeps it: a file, several, words, or pixels by side."""

ROOT = "0"
"""Id of every session's first turn, the original picture."""

OWN = {
    "image": "it is the picture of the turn before, or the original",
    "prompt": "a turn has the words that were added; with the earlier ones they are in its recipe",
    "mask_is": "a turn keeps the mask as it was read",
    "seed": "each candidate has its own",
    "num_images": "it is the number of candidates",
    "model": "a turn names the model that was used, asked for or not",
    "options": "a turn has them even where there are none",
}
"""Parts of an edit for which a turn has a field with a meaning of its own, and which meaning."""

INPUTS = tuple(part for part in PARTS if part.name not in OWN)
"""Parts of an edit that a turn keeps in `inputs`, as they were."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One step of a session; once it is there it never changes, but that it may be measured later,
    and a candidate may be kept.

    Pictures are named by the sha256 of their files.

    Attributes:
        id: '0' is the original, later turns count on.
        parent: the turn that it follows; None for the original.
        kind: 'edit' = an instruction without a mask, 'inpaint' = words and a mask, 'erase' = a
            mask alone, 'extend' = a border, with words or without.
        created: time in UTC, ISO 8601.
        picture: PNG, every pixel as it was made.
        thumbnail: small WebP.
        touched: PNG, 'L', at most `measures.WORKING_PIXELS`: 255 = some turn from the original to
            this one changed it on purpose; None = nothing was.
        inputs: the other parts that it was made with, by name: the PNG of a picture or mask, those
            of several pictures as a tuple, words as they were, the pixels of a border by side;
            see `INPUTS`.
        prompt, model, seed, options: as they were asked for.
        from_original: it was made from the original with all instructions so far, not from its
            parent's picture.
        candidate_of: the turn that was preferred to this one, of the same edit.
        candidates: pictures that the edit made.
        is_kept: a candidate that was not preferred, and that somebody wants to keep in sight.
        format: of the file that the original came from; None = it came from none, or this is no
            original.
        verdict: whether it did what an edit should, or nothing, or more than it should.
        measures: numbers beside its parent and beside the original, once it is measured; None for
            the original.
        warnings: one sentence each.
        recipe: plain data that makes the picture again.
        safety: what the safety policy found; None = nothing was checked.
        model_output: PNGs of what the model itself made, by the names of `ModelOutput`, where it
            has changed areas; else empty. Nobody is shown them.
    """

    id: str
    parent: str | None
    kind: TurnKind
    created: str
    picture: str
    thumbnail: str
    touched: str | None = None
    inputs: Mapping[str, TurnInput] = field(default_factory=dict)
    prompt: str = ""
    model: str | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    from_original: bool = False
    candidate_of: str | None = None
    candidates: int = 1
    is_kept: bool = False
    format: FileFormat | None = None
    verdict: TurnVerdict = "done"
    measures: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    safety: tuple[Mapping[str, Any], ...] | None = None
    model_output: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All pictures that it names."""
        keys = [self.picture, self.thumbnail, *([self.touched] if self.touched else [])]
        keys += self.model_output.values()
        for part in INPUTS:
            keys += self.files_of(part)
        return tuple(dict.fromkeys(keys))

    def files_of(self, part: Part) -> tuple[str, ...]:
        """The files of one of its inputs; none if it has no such picture."""
        value = self.inputs.get(part.name, ())
        if not part.is_visual:
            return ()
        return (value,) if isinstance(value, str) else tuple(value)

    @property
    def borders(self) -> Borders | None:
        """How far the picture grew; None = it did not."""
        value = self.inputs.get("extend")
        return Borders(**value) if isinstance(value, Mapping) else None

    def size_before(self, size: Size) -> Size:
        """(width, height) of the picture that grew to that size in this turn."""
        wider, higher = (self.borders or Borders()).around((0, 0))
        return size[0] - wider, size[1] - higher

    @property
    def mask(self) -> str | None:
        """PNG of the mask it was made with."""
        value = self.inputs.get("mask")
        assert value is None or isinstance(value, str)
        return value

    @property
    def areas(self) -> Sequence[Mapping[str, Any]]:
        """What an instruction without a mask changed, the largest first; see docs/staying.md.

        Raises:
            InvalidRequest: nothing is known of its areas.
        """
        areas = (self.measures or {}).get("edit", {}).get("areas")
        if not areas:
            raise InvalidRequest(
                f"turn {self.id} has no list of changed areas: only an instruction without a mask "
                "has one, and only where it did not change most of the picture",
                field="turn",
            )
        return tuple(areas)

    def check_areas(self, numbers: Collection[int]) -> None:
        """Hold numbers of areas, from 1, against its own.

        Raises:
            InvalidRequest: it has no areas, or not these.
        """
        most = len(self.areas)
        for number in numbers:
            if not 1 <= number <= most:
                has = f"areas 1 to {most}" if most > 1 else "one area" if most else "no areas"
                raise InvalidRequest(
                    f"there is no area {number}; turn {self.id} has {has}", field="keep_areas"
                )

    def as_json(self) -> dict[str, Any]:
        """Plain data, each input under its own name; `from_json` makes the turn again."""
        data = dataclasses.asdict(self)
        inputs = data.pop("inputs")
        missing = {part.name: () if part.kind == "pictures" else None for part in INPUTS}
        return {**data, **missing, **inputs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Turn:
        """The turn of `as_json`, or of an earlier version's, which knew fewer inputs.

        Raises:
            ValueError: it is none.
        """
        values = fields_of(data)
        lists = {
            name: tuple(values[name])
            for name in ("warnings", "safety")
            if values.get(name) is not None
        }
        return cls(**{**values, **lists})


def fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Turn` from `as_json`, the inputs gathered and of their kinds.

    Raises:
        ValueError: a key is not known, or an input is of another kind.
    """
    own = {each.name for each in dataclasses.fields(Turn)} - {"inputs"}
    inputs = {part.name: _input(part, data.get(part.name)) for part in INPUTS}
    unknown = sorted(set(data) - own - set(inputs))
    if unknown:
        raise ValueError(f"{unknown[0][:40]}: a turn of this version has no such key")
    values = {name: value for name, value in data.items() if name in own}
    return {**values, "inputs": {name: each for name, each in inputs.items() if each is not None}}


def _input(part: Part, value: Any) -> TurnInput | None:
    """An input as a turn has it; None = it had none."""
    if part.kind == "borders" and isinstance(value, Mapping):
        try:
            return Borders(**value).as_json()
        except (TypeError, InvalidRequest) as error:
            raise ValueError(f"{part.name}: {str(error)[:80]}") from error
    if part.kind == "pictures":
        value = () if value is None else value
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return tuple(value) or None
    elif value is None or (isinstance(value, str) and part.kind != "borders"):
        return value
    raise ValueError(f"{part.name}: a {type(value).__name__} is no {part.kind} of a turn")


@dataclass(frozen=True, kw_only=True)
class Session:
    """A tree of turns, and where its owner stands in it.

    Attributes:
        id: unguessable.
        name: what people call it.
        owner: whose it is.
        created, updated: times in UTC, ISO 8601.
        head: the turn that is shown and that the next edit follows.
        tip: the turn that undone steps lead back to.
        revision: grows with every change.
        turns: in the order in which they came.
    """

    id: str
    name: str
    owner: str
    created: str
    updated: str
    head: str
    tip: str
    revision: int
    turns: tuple[Turn, ...]

    def turn(self, id_: str | None = None) -> Turn:
        """The turn of that id; None = the head.

        Raises:
            SessionNotFound: there is none.
        """
        turn_id = self.head if id_ is None else id_
        for turn in self.turns:
            if turn.id == turn_id:
                return turn
        last = self.turns[-1].id
        there = f"turn {ROOT} alone" if last == ROOT else f"the turns {ROOT} to {last}"
        raise SessionNotFound(
            f"there is no turn '{turn_id[:40]}'; '{self.name}' has {there}", field="turn"
        )

    def path(self, id_: str | None = None) -> list[Turn]:
        """The turns from the original to that one; None = to the head."""
        turns = [self.turn(id_)]
        while (parent := turns[-1].parent) is not None:
            turns.append(self.turn(parent))
        return turns[::-1]

    def check_revision(self, revision: int | None) -> None:
        """Whether the session is still as the caller knows it; None = the caller does not mind.

        Raises:
            SessionConflict: it is not.
        """
        if revision is not None and revision != self.revision:
            raise SessionConflict(
                f"the session has changed: its revision is {self.revision}, not {revision}; "
                "load it again"
            )

    @property
    def undo(self) -> str | None:
        """The turn before the head."""
        return self.turn().parent

    @property
    def redo(self) -> str | None:
        """The turn after the head that was last undone."""
        path = [turn.id for turn in self.path(self.tip)]
        if self.head not in path[:-1]:
            return None
        return path[path.index(self.head) + 1]

    def children(self, id_: str) -> Iterator[Turn]:
        """The turns that follow that one."""
        return (turn for turn in self.turns if turn.parent == id_)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A session in a list.

    Attributes:
        turns: how many, the original among them.
        thumbnail: of the head, its sha256.
        bytes: of its pictures; some may be another session's, too.
    """

    id: str
    name: str
    created: str
    updated: str
    head: str
    revision: int
    turns: int
    thumbnail: str
    bytes: int


def now() -> str:
    """The time in UTC, as `stamp` writes it."""
    return stamp(datetime.now(UTC))


def stamp(time: datetime) -> str:
    """ISO 8601 with milliseconds; later times sort after earlier ones.

    Args:
        time: in UTC.
    """
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

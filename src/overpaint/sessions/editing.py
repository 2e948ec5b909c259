"""From a session to an edit request: what an edit starts from, and what a turn was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.fidelity.layer import ModelOutput
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EarlierRun, EditRequest
from overpaint.engine import intake
from overpaint.provenance import recipes
from overpaint.sessions.pictures import LIMITS, Pictures
from overpaint.sessions.store import ANYONE, Store
from overpaint.sessions.types import INPUTS, ROOT, Session, Turn


@dataclass(frozen=True, kw_only=True)
class Start:
    """What an edit starts from.

    Attributes:
        session: as it is then.
        parent: the turn that it follows.
        instruction: the words of this turn alone.
        prompt: the words for the model.
        from_original: it edits the original, with all instructions so far.
    """

    session: Session
    parent: Turn
    instruction: str
    prompt: str
    from_original: bool = False

    @property
    def base(self) -> Turn:
        """The turn whose picture is edited."""
        return self.session.turn(ROOT) if self.from_original else self.parent

    def parts(self, values: Mapping[str, Any], picture: Picture) -> dict[str, Any]:
        """The parts of this turn's edit.

        The noise is drawn from the seed and the picture, so that a seed that is used for turn
        after turn never meets the noise that its picture was made of.

        Args:
            values: parts as the caller gives them.
            picture: of `base`.
        """
        options = {"noise_from": "seed_and_picture", **(values.get("options") or {})}
        return {**values, "image": picture, "prompt": self.prompt, "options": options}


def start(
    store: Store,
    id_: str,
    instruction: str,
    *,
    parent: str | None = None,
    from_original: bool = False,
    revision: int | None = None,
    owner: str = ANYONE,
) -> Start:
    """What an edit starts from; nothing is changed yet. `reserve` follows once it is checked.

    Args:
        store: where the session is.
        id_: of the session.
        instruction: the words of this turn alone.
        parent: the turn that it follows; None = the head.
        from_original: edit the original, with all instructions so far.
        revision: of the session that the caller knows; None = any.
        owner: of the session.

    Raises:
        SessionNotFound: no such session or turn.
        SessionConflict: somebody changed the session since.
        InvalidRequest: `from_original` cannot be done here.
    """
    session = store.get(id_, owner)
    session.check_revision(revision)
    follows = session.turn(parent)
    return Start(
        session=session,
        parent=follows,
        instruction=instruction,
        prompt=all_instructions(session, follows, instruction) if from_original else instruction,
        from_original=from_original,
    )


def with_earlier_runs(pictures: Pictures, start: Start, request: EditRequest) -> EditRequest:
    """The edit of a turn, with what its session keeps of turns that differ in their areas at most.

    The engine reads it where the recipes say that the model would make the same picture again.

    Args:
        pictures: where the session's pictures are kept.
        start: from the beginning of the edit.
        request: of the turn; only one that names the areas to keep can be such an edit.
    """
    if request.options.get("keep_areas") is None or request.num_images > 1:
        return request
    turns = [each for each in start.session.turns if each.model_output and _is_like(each, request)]
    runs = [EarlierRun(recipe=turn.recipe, read=partial(_output, pictures, turn)) for turn in turns]
    return replace(request, earlier_runs=tuple(runs))


def _is_like(turn: Turn, request: EditRequest) -> bool:
    return turn.seed == request.seed and turn.recipe["inputs"]["image"] == request.image.sha256


def _output(pictures: Pictures, turn: Turn) -> ModelOutput:
    """What the model made of a turn's edit.

    Raises:
        StoreUnavailable: a picture is missing or damaged.
    """
    files = turn.model_output.items()
    return ModelOutput(**{name: pictures.picture(key).rgb for name, key in files})


def reserve(store: Store, start: Start, count: int) -> Start:
    """Tell others that the session is about to change.

    Raises:
        SessionConflict: somebody changed it since `start`.
        InvalidRequest: there is no room for `count` more turns.
    """
    session = start.session
    session = store.reserve(session.id, session.revision, session.owner, count=count)
    return replace(start, session=session)


def release(store: Store, start: Start) -> None:
    """Take back `reserve`, as the edit failed: who knows the session as it was may try again."""
    store.release(start.session.id, start.session.revision, start.session.owner)


def all_instructions(session: Session, parent: Turn, instruction: str) -> str:
    """The instructions from the original to `parent`, and one more, as one text.

    Raises:
        InvalidRequest: one of the turns had a mask or a border, which words cannot stand for.
    """
    words: list[str] = []
    for turn in session.path(parent.id)[1:]:
        if turn.kind != "edit":
            raise InvalidRequest(
                f"turn {turn.id} had a mask or a border, so the original cannot be edited "
                "again with words alone; continue from the turn itself",
                field="from_original",
            )
        words.append(turn.prompt)
    sentences = [each.strip().rstrip(".") for each in (*words, instruction)]
    return ". ".join(each for each in sentences if each)


def again(pictures: Pictures, session: Session, turn: Turn) -> EditRequest:
    """The edit that a turn was made with; its picture is what the edit gives once more.

    Raises:
        InvalidRequest: the turn is the original.
        StoreUnavailable: a picture is missing or damaged.
    """
    if turn.parent is None:
        raise InvalidRequest("the original was not made by an edit", field="turn")
    parent = session.turn(turn.parent)
    base, prompt = parent, turn.prompt
    if turn.from_original:
        base, prompt = session.turn(ROOT), all_instructions(session, parent, turn.prompt)
    inputs: dict[str, Any] = {}
    image = pictures.picture(base.picture)
    for part in INPUTS:
        files = [pictures.get(key) for key in turn.files_of(part)]
        if files:
            value = files if part.kind == "pictures" else files[0]
            inputs[part.name] = intake.decoded(part, value, limits=LIMITS)
        elif part.name in turn.inputs:
            inputs[part.name] = turn.inputs[part.name]
    inputs["extend"] = turn.borders
    return EditRequest(
        image=image,
        prompt=prompt,
        seed=turn.seed,
        model=turn.model,
        options={
            **recipes.options_since(turn.recipe.get("options", {})),
            **turn.options,
            **recipes.areas_kept(turn.recipe),
        },
        **inputs,
    )

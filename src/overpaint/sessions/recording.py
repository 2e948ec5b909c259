"""From the result of an edit to turns: ranked, measured and added to the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine import canvas
from overpaint.provenance import recipes
from overpaint.sessions import measuring
from overpaint.sessions.editing import Start
from overpaint.sessions.judges import judging, measures
from overpaint.sessions.judges.judging import (
    Judge,
    JudgedEdit,
    Judgement,
    JudgeUnavailable,
    PixelJudge,
)
from overpaint.sessions.measuring import Examiner
from overpaint.sessions.pictures import Pictures
from overpaint.sessions.store import Store
from overpaint.sessions.types import (
    INPUTS,
    ROOT,
    Session,
    Turn,
    TurnInput,
    TurnKind,
    TurnVerdict,
    now,
)

_NOTHING: dict[TurnKind, str] = {
    "erase": "Nothing changed: what is marked already looks like what is around it. Mark the "
    "whole thing, and a little more.",
    "inpaint": "Nothing changed where the mask is. Say it in other words, mark more, or try "
    "another seed.",
    "edit": "Nothing changed: the instruction was not followed. Say it in other words, or try "
    "another seed.",
}
_EVERYTHING = (
    "Most of the picture changed, so nothing was put back. A mask limits where an edit happens."
)


def original_turn(pictures: Pictures, picture: Picture) -> Turn:
    """The first turn of a session; its pictures are kept."""
    return Turn(
        id=ROOT,
        parent=None,
        kind="original",
        created=now(),
        picture=pictures.put_picture(picture),
        thumbnail=pictures.put_thumbnail(picture),
        format=picture.format,
    )


def record(
    store: Store,
    start: Start,
    request: EditRequest,
    result: EditResult,
    examiner: Examiner,
    *,
    measure_now: bool = True,
) -> tuple[Session, tuple[Turn, ...]]:
    """Measure and rank what an edit made, and add it to the session.

    Args:
        store: where the session is.
        start: from the beginning of the edit.
        request, result: what the engine was given, and gave.
        examiner: measures and ranks.
        measure_now: False = `measuring.measure` comes later; large pictures take seconds.

    Returns:
        The session, and the turns that were added: the best one first.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
        StoreUnavailable: it cannot be kept.
    """
    computed = canvas.of(request)
    edit = JudgedEdit(before=computed.image, instruction=request.prompt, mask=computed.mask)
    outcomes = [_outcome(request, edit, each) for each in result.pictures]
    judgements, warnings = _judged(examiner.judge, edit, result.pictures)
    ranked = judging.rank(judgements, outcomes, result.measures)
    common = _common(store.pictures, start, request, result)
    turns = []
    for index in ranked:
        turn = replace(
            common,
            seed=result.seeds[index],
            recipe=_recipe(result, index),
            verdict=outcomes[index],
            measures={"judge": _as_json(judgements[index]), **_edit_measures(result, index)},
            model_output=_model_output(store.pictures, result, index),
        )
        turn = _placed(store.pictures, turn, start, computed, result.pictures[index])
        remarks = _sentences(turn, judgements[index] if examiner.judge.reads else None)
        turn = replace(
            turn, warnings=(*result.warnings, *warnings, *remarks, *_repeats(start, turn))
        )
        if measure_now:
            pictures = computed.image, result.pictures[index]
            turn = measuring.measure_turn(store.pictures, turn, start.session, pictures, examiner)
        turns.append(turn)
    session = start.session
    return store.append(session.id, turns, session.owner, head=session.head)


def _judged(
    judge: Judge, edit: JudgedEdit, candidates: Sequence[Picture]
) -> tuple[Sequence[Judgement], list[str]]:
    """What the judge says; a judge that does not answer costs no finished edit."""
    try:
        return judge.judge(edit, candidates), []
    except JudgeUnavailable as error:
        sentence = f"The judge did not answer ({error.message}); pixels alone were compared."
        return PixelJudge().judge(edit, candidates), [sentence]


def _common(pictures: Pictures, start: Start, request: EditRequest, result: EditResult) -> Turn:
    """What all candidates of an edit share."""
    return Turn(
        id="",
        parent=start.parent.id,
        kind=_kind(request),
        created=now(),
        picture="",
        thumbnail="",
        inputs=_inputs(pictures, request),
        prompt=start.instruction,
        model=str(result.recipe["model"].get("name", request.model)),
        options=dict(request.options),
        from_original=start.from_original,
        candidates=len(result.pictures),
        safety=None if result.safety is None else tuple(each.as_json() for each in result.safety),
    )


def _inputs(pictures: Pictures, request: EditRequest) -> dict[str, TurnInput]:
    """What else an edit was given, its pictures kept."""
    inputs: dict[str, TurnInput] = {}
    for part in INPUTS:
        value = getattr(request, part.name)
        if value is None or value == ():
            continue
        if part.kind == "pictures":
            inputs[part.name] = tuple(pictures.put_mask(each) for each in value)
        elif part.kind == "borders":
            inputs[part.name] = value.as_json()
        else:
            inputs[part.name] = pictures.put_mask(value) if part.is_visual else value
    return inputs


def _outcome(request: EditRequest, edit: JudgedEdit, picture: Picture) -> TurnVerdict:
    """Whether an edit did what it should; a border is there in any case."""
    return "done" if request.extend is not None else judging.outcome(edit, picture)


def _kind(request: EditRequest) -> TurnKind:
    if request.extend is not None:
        return "extend"
    if request.mask is None:
        return "edit"
    return "inpaint" if request.prompt.strip() else "erase"


def _recipe(result: EditResult, index: int) -> dict[str, object]:
    return recipes.of_one(result.recipe, index)


def _edit_measures(result: EditResult, index: int) -> dict[str, object]:
    """What the engine measured of one picture, under `edit`."""
    return {"edit": result.measures[index]} if result.measures else {}


def _model_output(pictures: Pictures, result: EditResult, index: int) -> dict[str, str]:
    """What the model itself made of one picture, kept; nothing where it has no changed areas."""
    output = result.model_outputs[index] if result.model_outputs else None
    files = {} if output is None else vars(output)
    return {name: pictures.put_mask(image) for name, image in files.items()}


def _as_json(judgement: Judgement) -> dict[str, object]:
    return {"name": judgement.judge, "score": judgement.score, "reason": judgement.reason}


def _sentences(turn: Turn, read: Judgement | None) -> list[str]:
    """What to say of a turn's verdict, and of a judge's doubt that reads instructions."""
    sentences = []
    if turn.verdict != "done":
        is_nothing = turn.verdict == "nothing_changed"
        sentences.append(_NOTHING[turn.kind] if is_nothing else _EVERYTHING)
    if read is not None and read.score < judging.DOUBT:
        sentences.append(f"The judge doubts that it was done: {read.reason}")
    return sentences


def _repeats(start: Start, turn: Turn) -> list[str]:
    """A sentence where the picture was made with this very noise already."""
    base = start.base
    if turn.options.get("noise_from") != "seed":
        return []
    is_repeated = base.seed is not None and (base.seed, base.model) == (turn.seed, turn.model)
    if not is_repeated or turn.kind == "erase":
        return []
    return [
        f"Turn {base.id} had the seed {turn.seed}, too: the same noise over its own result makes "
        "flaws stronger. Another seed, or none, is better."
    ]


def _placed(
    pictures: Pictures, turn: Turn, start: Start, request: EditRequest, picture: Picture
) -> Turn:
    """The turn with its picture, and with the area touched so far.

    Args:
        pictures: where pictures are kept.
        turn: as far as it is known.
        start: from the beginning of the edit.
        request: as it was computed, on the larger canvas where the picture grew.
        picture: what came of it.
    """
    if request.mask is not None:
        region = measures.working(request.mask)
    else:
        region = measures.changed_region(request.image, picture)
    before = start.base.touched
    if before is not None:
        touched = pictures.mask(before)
        if turn.borders is not None:
            size = turn.size_before(request.image.size)
            touched = measures.moved(touched, turn.borders, size)
        region = measures.union(touched, region)
    return replace(
        turn,
        picture=pictures.put_picture(picture),
        thumbnail=pictures.put_thumbnail(picture),
        touched=pictures.put_mask(region),
    )

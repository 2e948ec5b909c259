"""From a session to an edit request, and from its result to turns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging import borders, images
from overpaint.core.imaging.images import ImageLimits, Picture
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine import canvas, intake
from overpaint.provenance import recipes
from overpaint.sessions import judging, measures
from overpaint.sessions.judging import Judge, JudgedEdit, Judgement, JudgeUnavailable, PixelJudge
from overpaint.sessions.measures import Comparison, Similarity, Thresholds
from overpaint.sessions.pictures import Pictures
from overpaint.sessions.store import ANYONE, Store
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

THUMBNAIL = 256
"""Longer side, in pixels."""

_KEPT = ImageLimits(max_bytes=2**32, max_pixels=2**30)
"""Of pictures that were let in once: as PNG they may be larger than they came."""

_BESIDE = {"previous": "the turn before", "original": "the original"}
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


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Measures results and says which is best.

    Attributes:
        judge: ranks candidates.
        similarity: a model that compares whole pictures; None = no such number.
        thresholds: from where on a number becomes a warning.
    """

    judge: Judge = field(default_factory=PixelJudge)
    similarity: Similarity | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


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


def original_turn(pictures: Pictures, picture: Picture) -> Turn:
    """The first turn of a session; its pictures are kept."""
    return Turn(
        id=ROOT,
        parent=None,
        kind="original",
        created=now(),
        picture=pictures.put(images.encode(picture)),
        thumbnail=pictures.put(thumbnail(picture)),
        format=picture.format,
    )


def all_instructions(session: Session, parent: Turn, instruction: str) -> str:
    """The instructions from the original to `parent`, and one more, as one text.

    Raises:
        InvalidRequest: one of the turns had a mask or a border, which words cannot stand for.
    """
    words: list[str] = []
    for turn in session.path(parent.id)[1:]:
        if turn.kind != "edit":
            raise InvalidRequest(
                f"turn {turn.id} had a mask or a border, so the original cannot be edited again "
                "with words alone; go on from the turn itself",
                field="from_original",
            )
        words.append(turn.prompt)
    sentences = [each.strip().rstrip(".") for each in (*words, instruction)]
    return ". ".join(each for each in sentences if each)


def record(
    store: Store,
    start: Start,
    request: EditRequest,
    result: EditResult,
    examiner: Examiner,
    *,
    measured: bool = True,
) -> tuple[Session, tuple[Turn, ...]]:
    """Measure and rank what an edit made, and add it to the session.

    Args:
        store: where the session is.
        start: from the beginning of the edit.
        request, result: what the engine was given, and gave.
        examiner: measures and ranks.
        measured: False = `measure` comes later; large pictures take seconds.

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
        )
        turn = _placed(store.pictures, turn, start, computed, result.pictures[index])
        said = _sentences(turn, judgements[index] if examiner.judge.reads else None)
        turn = replace(turn, warnings=(*result.warnings, *warnings, *said, *_repeats(start, turn)))
        if measured:
            pictures = computed.image, result.pictures[index]
            turn = _measured(store.pictures, turn, start.session, pictures, examiner)
        turns.append(turn)
    session = start.session
    return store.append(session.id, turns, session.owner, head=session.head)


def measure(store: Store, session: Session, turn: Turn, examiner: Examiner) -> Turn:
    """Measure a turn that was recorded without, from the pictures that the session kept.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
        StoreUnavailable: a picture is missing, or the measures cannot be kept.
    """
    assert turn.parent is not None
    base = session.turn(ROOT if turn.from_original else turn.parent)
    before = framed(opened(store.pictures, base.picture), [turn])
    pictures = before, opened(store.pictures, turn.picture)
    measured = _measured(store.pictures, turn, session, pictures, examiner)
    store.amend(
        session.id,
        turn.id,
        lambda now: replace(measured, is_kept=now.is_kept),
        session.owner,
    )
    return measured


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
    image = opened(pictures, base.picture)
    for part in INPUTS:
        files = [pictures.get(key) for key in turn.files_of(part)]
        if files:
            value = files if part.kind == "pictures" else files[0]
            inputs[part.name] = intake.decoded(part, value, limits=_KEPT)
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


def compare(pictures: Pictures, first: Turn, second: Turn, examiner: Examiner) -> Comparison:
    """Measure one turn beside another, whatever lies between them."""
    before, after = (opened(pictures, each.picture) for each in (first, second))
    return measures.compare(before, after, similarity=examiner.similarity)


def framed(picture: Picture, turns: Sequence[Turn]) -> Picture:
    """A picture as large as these turns made it, so that it can be laid beside theirs."""
    for turn in turns:
        borders_, options = turn.borders, turn.options
        if borders_ is not None and not borders_.is_own:
            picture, _ = borders.canvas(picture, borders_)
        elif options.get("width") and options.get("height"):
            picture = picture.resized((int(options["width"]), int(options["height"])))
    return picture


def opened(pictures: Pictures, key: str) -> Picture:
    """A picture that is kept.

    Raises:
        StoreUnavailable: it is missing or damaged.
    """
    return pictures.recent.get(key, lambda each: images.decode(pictures.get(each), limits=_KEPT))


def thumbnail(picture: Picture) -> bytes:
    """A small WebP of a picture, in sRGB."""
    small = Picture(picture.to_srgb(), picture.alpha).to_pil()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return images.encode(Picture.from_pil(small), "WEBP", quality=80, lossless=False)


def png(image: Image.Image) -> bytes:
    """A mask or a plain picture as a file."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


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
            inputs[part.name] = tuple(pictures.put(png(each)) for each in value)
        elif part.kind == "borders":
            inputs[part.name] = value.as_json()
        else:
            inputs[part.name] = pictures.put(png(value)) if part.is_visual else value
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
        touched = images.decode_mask(pictures.get(before), limits=_KEPT)
        if turn.borders is not None:
            size = turn.size_before(request.image.size)
            touched = measures.moved(touched, turn.borders, size)
        region = measures.union(touched, region)
    return replace(
        turn,
        picture=pictures.put(images.encode(picture)),
        thumbnail=pictures.put(thumbnail(picture)),
        touched=pictures.put(png(region)),
    )


def _measured(
    pictures: Pictures,
    turn: Turn,
    session: Session,
    pair: tuple[Picture, Picture],
    examiner: Examiner,
) -> Turn:
    """The turn with its measures, and warnings about them.

    Args:
        pictures: where pictures are kept.
        turn: as recorded.
        session: that it belongs to.
        pair: what was edited, and what came of it.
        examiner: measures.
    """
    assert turn.parent is not None
    assert turn.touched is not None
    base, picture = pair
    touched = images.decode_mask(pictures.get(turn.touched), limits=_KEPT)
    is_first = turn.from_original or turn.parent == ROOT
    original = base
    if not is_first:
        turns = [*_line(session, session.turn(turn.parent)), turn]
        original = framed(opened(pictures, session.turn(ROOT).picture), turns)
    beside = {"original": measures.compare(original, picture, touched, examiner.similarity)}
    if turn.from_original:
        previous = framed(opened(pictures, session.turn(turn.parent).picture), [turn])
        beside["previous"] = measures.compare(previous, picture, None, examiner.similarity)
        telling = ["original"]
    elif is_first:
        beside["previous"] = beside["original"]  # the same two pictures
        telling = ["previous"]
    else:
        region = _region(pictures, turn, session, pair)
        beside["previous"] = measures.compare(base, picture, region, examiner.similarity)
        telling = ["previous", "original"]
    comparisons = {name: beside[name].as_json() for name in _BESIDE}
    sentences = [
        sentence
        for name in telling
        for sentence in examiner.thresholds.warnings(comparisons[name], _BESIDE[name])
    ]
    return replace(
        turn,
        measures={**comparisons, **(turn.measures or {})},
        warnings=(*turn.warnings, *sentences),
    )


def _region(
    pictures: Pictures, turn: Turn, session: Session, pair: tuple[Picture, Picture]
) -> Image.Image:
    """Where this turn alone was meant to change its picture."""
    if turn.borders is not None:
        mask = canvas.of(again(pictures, session, turn)).mask
        assert mask is not None
        return measures.working(mask)
    if turn.mask is None:
        return measures.changed_region(*pair)
    return measures.working(images.decode_mask(pictures.get(turn.mask), limits=_KEPT))


def _line(session: Session, turn: Turn) -> list[Turn]:
    """The turns that made its picture of the original, one after the other."""
    path = session.path(turn.id)[1:]
    fresh = [place for place, each in enumerate(path) if each.from_original]
    return path[fresh[-1] :] if fresh else path

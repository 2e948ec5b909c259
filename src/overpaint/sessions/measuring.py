"""Turns in numbers: beside the picture that they were made of, and beside the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from overpaint.core.imaging import borders
from overpaint.core.imaging.images import Picture
from overpaint.engine import canvas
from overpaint.sessions.editing import again
from overpaint.sessions.judges import measures
from overpaint.sessions.judges.judging import Judge, PixelJudge
from overpaint.sessions.judges.measures import Comparison, Similarity, Thresholds
from overpaint.sessions.pictures import Pictures
from overpaint.sessions.store import Store
from overpaint.sessions.types import ROOT, Session, Turn

_BESIDE = {"previous": "the turn before", "original": "the original"}


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


def measure(store: Store, session: Session, turn: Turn, examiner: Examiner) -> Turn:
    """Measure a turn that was recorded without measures, from the pictures that the session kept.

    Raises:
        SessionNotFound: the session was deleted meanwhile.
        StoreUnavailable: a picture is missing, or the measures cannot be kept.
    """
    assert turn.parent is not None
    base = session.turn(ROOT if turn.from_original else turn.parent)
    before = framed(store.pictures.picture(base.picture), [turn])
    pictures = before, store.pictures.picture(turn.picture)
    complete = measure_turn(store.pictures, turn, session, pictures, examiner)
    store.amend(
        session.id,
        turn.id,
        lambda now: replace(complete, is_kept=now.is_kept),
        session.owner,
    )
    return complete


def compare(pictures: Pictures, first: Turn, second: Turn, examiner: Examiner) -> Comparison:
    """Measure one turn beside another, whatever lies between them."""
    before, after = (pictures.picture(each.picture) for each in (first, second))
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


def measure_turn(
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
    touched = pictures.mask(turn.touched)
    is_first = turn.from_original or turn.parent == ROOT
    original = base
    if not is_first:
        turns = [*_line(session, session.turn(turn.parent)), turn]
        original = framed(pictures.picture(session.turn(ROOT).picture), turns)
    beside = {"original": measures.compare(original, picture, touched, examiner.similarity)}
    if turn.from_original:
        previous = framed(pictures.picture(session.turn(turn.parent).picture), [turn])
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
    return measures.working(pictures.mask(turn.mask))


def _line(session: Session, turn: Turn) -> list[Turn]:
    """The turns that made its picture of the original, one after the other."""
    path = session.path(turn.id)[1:]
    fresh = [place for place, each in enumerate(path) if each.from_original]
    return path[fresh[-1] :] if fresh else path

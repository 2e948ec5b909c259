"""Sessions as objects: `Sessions` begins, moves and measures them, `Editor` makes turns, too.

The library, the command line and the server share them. An engine comes in as two callables: one
looks at what comes in, as the safety policy does, the other makes an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Protocol

from overpaint.core.errors import InvalidRequest
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult, Progress
from overpaint.engine import intake
from overpaint.engine.intake import PictureLike, as_picture
from overpaint.sessions import archive, editing, measuring, recording
from overpaint.sessions.archive import ArchiveLimits
from overpaint.sessions.editing import Start
from overpaint.sessions.judges.measures import Comparison
from overpaint.sessions.measuring import Examiner
from overpaint.sessions.store import ANYONE, Store
from overpaint.sessions.types import Session, Turn

if TYPE_CHECKING:
    from overpaint.engine.engine import Engine

NAME = "untitled"

Check = Callable[[EditRequest], object]
"""Looks at a request, as the safety policy's `check_request`; raises what keeps it out."""


class RunEdit(Protocol):
    """Makes one edit; raises as `Engine.run`."""

    def __call__(
        self,
        request: EditRequest,
        /,
        *,
        on_progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> EditResult:
        """The result of the request."""


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """An owner's sessions.

    Attributes:
        store: where they are kept.
        check: looks at every picture and text that comes in from outside.
        examiner: measures and ranks what was earlier.
        owner: whose they are.
    """

    store: Store
    check: Check
    examiner: Examiner = field(default_factory=Examiner)
    owner: str = ANYONE

    def new(self, image: PictureLike, name: str = NAME) -> Session:
        """Begin a session with a picture.

        Raises:
            InvalidRequest: the picture or the name cannot be used, or there is no room.
            ContentBlocked, SafetyUnavailable: from `check`.
        """
        picture = as_picture(image)
        self.check(EditRequest(image=picture))
        original = recording.original_turn(self.store.pictures, picture)
        return self.store.create(name, original, self.owner)

    def load(self, file: IO[bytes], limits: ArchiveLimits | None = None) -> Session:
        """Begin a session from an archive; see `archive.load`."""
        return archive.load(self.store, file, self.check, limits, self.owner)

    def start(
        self,
        session: str,
        instruction: str,
        *,
        parent: str | None = None,
        from_original: bool = False,
        revision: int | None = None,
    ) -> Start:
        """What an edit starts from; nothing is changed yet. See `editing.start`."""
        return editing.start(
            self.store,
            session,
            instruction,
            parent=parent,
            from_original=from_original,
            revision=revision,
            owner=self.owner,
        )

    def reserve(self, start: Start, count: int) -> Start:
        """Tell others that the session is about to get turns. See `editing.reserve`."""
        return editing.reserve(self.store, start, count)

    def release(self, start: Start) -> None:
        """Take back `reserve`, as the edit failed. See `editing.release`."""
        editing.release(self.store, start)

    def with_earlier_runs(self, start: Start, request: EditRequest) -> EditRequest:
        """The edit, with what the session keeps of it; see `editing.with_earlier_runs`."""
        return editing.with_earlier_runs(self.store.pictures, start, request)

    def record(
        self, start: Start, request: EditRequest, result: EditResult, *, measure_now: bool = True
    ) -> tuple[Session, tuple[Turn, ...]]:
        """Measure what an edit made, and add it to its session. See `recording.record`."""
        return recording.record(
            self.store, start, request, result, self.examiner, measure_now=measure_now
        )

    def measure(self, session: Session, turns: Sequence[Turn]) -> None:
        """Measure turns that were recorded without. See `measuring.measure`."""
        for turn in turns:
            measuring.measure(self.store, session, turn, self.examiner)

    def undo(self, session: str) -> Session:
        """Go back one turn.

        Raises:
            InvalidRequest: the head is the original.
        """
        before = self.store.get(session, self.owner)
        return self._to(before, before.undo, "undo")

    def redo(self, session: str) -> Session:
        """Undo the last undo.

        Raises:
            InvalidRequest: nothing was undone.
        """
        before = self.store.get(session, self.owner)
        return self._to(before, before.redo, "redo")

    def branch(self, session: str, turn: str) -> Session:
        """Continue from any turn; later turns stay."""
        return self.store.move(session, turn, owner=self.owner)

    def picture(self, turn: Turn) -> Picture:
        """A turn's picture."""
        return self.store.pictures.picture(turn.picture)

    def compare(self, session: str, first: str, second: str | None = None) -> Comparison:
        """Measure one turn beside another; None = the head."""
        whole = self.store.get(session, self.owner)
        pair = whole.turn(first), whole.turn(second)
        return measuring.compare(self.store.pictures, *pair, self.examiner)

    def _to(self, session: Session, turn: str | None, what: str) -> Session:
        if turn is None:
            raise InvalidRequest(f"there is nothing to {what}", field="turn")
        return self.store.move(session.id, turn, session.revision, self.owner)


@dataclass(frozen=True, kw_only=True)
class Editor(Sessions):
    """Edits pictures in sessions.

    Attributes:
        run_edit: makes the edits.
    """

    run_edit: RunEdit

    @classmethod
    def with_engine(
        cls,
        engine: Engine,
        *,
        store: Store,
        examiner: Examiner | None = None,
        owner: str = ANYONE,
    ) -> Editor:
        """An editor whose edits an engine makes, and whose policy looks at what comes in."""

        def run_edit(request: EditRequest, /, **hooks: Any) -> EditResult:
            return engine.run([request], **hooks)[0]

        return cls(
            store=store,
            check=lambda request: engine.policy.check_request(request),
            run_edit=run_edit,
            examiner=examiner or Examiner(),
            owner=owner,
        )

    @intake.takes_parts
    def edit(
        self,
        session: str,
        instruction: str = "",
        *,
        mask: PictureLike | None = None,
        parent: str | None = None,
        from_original: bool = False,
        revision: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **values: Any,
    ) -> tuple[Session, Turn]:
        """Make one turn.

        Args:
            session: id.
            instruction: what to change, or what the masked area should show.
            mask: 255 (white, True) = where.
            parent: id of the turn to go on from; None = the head.
            from_original: edit the original again with all instructions so far, so that what the
                model does to a picture does not add up.
            revision: of the session as the caller knows it; None = any.
            on_progress, cancelled, values: as for `Engine.edit`; of several images the best becomes
                the turn, the others stay beside it as candidates.

        Returns:
            The session afterwards, and the new turn.

        Raises:
            SessionConflict: somebody changed the session meanwhile.
            OverpaintError: as for `Engine.edit`; no turn was added.
        """
        start = self.start(
            session, instruction, parent=parent, from_original=from_original, revision=revision
        )
        parts = start.parts(intake.split({"mask": mask, **values}), self.picture(start.base))
        request = intake.request_of(parts)
        return self.make(start, request, on_progress=on_progress, cancelled=cancelled)

    def make(
        self,
        start: Start,
        request: EditRequest,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Session, Turn]:
        """Make one turn from `start`, with a request of the picture of its base."""
        request = self.with_earlier_runs(start, request)
        start = self.reserve(start, request.num_images)
        try:
            result = self.run_edit(request, on_progress=on_progress, cancelled=cancelled)
        except BaseException:
            self.release(start)
            raise
        session, turns = self.record(start, request, result)
        return session, turns[0]

    def keep_areas(self, session: str, turn: str, numbers: Collection[int]) -> tuple[Session, Turn]:
        """Make a turn once more with some of its changed areas; the others are put back.

        The model runs again only where another one, or another version, made the turn.

        Args:
            session, turn: ids.
            numbers: of the areas that stay, from 1, as `turn.areas` lists them; those that were put
                back may be among them.

        Returns:
            The session afterwards, and the new turn, which stands beside the one that was there.

        Raises:
            InvalidRequest: the turn has no such areas.
            OverpaintError: as for `edit`; no turn was added.
        """
        whole = self.store.get(session, self.owner)
        earlier = whole.turn(turn)
        earlier.check_areas(numbers)
        request = editing.again(self.store.pictures, whole, earlier)
        options = {**request.options, "keep_areas": sorted(numbers)}
        start = self.start(
            session, earlier.prompt, parent=earlier.parent, from_original=earlier.from_original
        )
        return self.make(start, replace(request, options=options))

    def again(self, session: str, turn: str) -> EditResult:
        """Make the picture of a turn again, from what the session kept of its edit.

        Raises:
            InvalidRequest: the turn is the original.
            OverpaintError: as for `Engine.edit`.
        """
        whole = self.store.get(session, self.owner)
        request = editing.again(self.store.pictures, whole, whole.turn(turn))
        return self.run_edit(request, on_progress=None, cancelled=None)

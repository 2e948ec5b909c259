"""Sessions as a library: one object to edit turn after turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from overpaint.core.errors import InvalidRequest
from overpaint.core.images import Picture
from overpaint.core.types import EditRequest, Progress
from overpaint.engine import intake
from overpaint.engine.engine import Engine
from overpaint.engine.intake import PictureLike, as_picture
from overpaint.sessions import editing
from overpaint.sessions.editing import Examiner
from overpaint.sessions.measures import Comparison
from overpaint.sessions.store import ANYONE, Store
from overpaint.sessions.types import Session, Turn

NAME = "untitled"


@dataclass(frozen=True, kw_only=True)
class Editor:
    """Edits pictures in sessions.

    Attributes:
        store: where sessions are kept.
        engine: makes the edits; its safety policy sees every picture that comes in.
        examiner: measures and ranks what was made.
        owner: whose sessions.
    """

    store: Store
    engine: Engine
    examiner: Examiner = field(default_factory=Examiner)
    owner: str = ANYONE

    def new(self, image: PictureLike, name: str = NAME) -> Session:
        """Begin a session with a picture.

        Raises:
            InvalidRequest: the picture or the name cannot be used, or there is no room.
            ContentBlocked, SafetyUnavailable: by the engine's policy.
        """
        picture = as_picture(image)
        self.engine.policy.check_request(EditRequest(image=picture))
        original = editing.original_turn(self.store.pictures, picture)
        return self.store.create(name, original, self.owner)

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
        started = editing.look(
            self.store,
            session,
            instruction,
            parent=parent,
            from_original=from_original,
            revision=revision,
            owner=self.owner,
        )
        values = {**values, "image": self.picture(started.base), "prompt": started.prompt}
        request = intake.request_of(intake.split({"mask": mask, **values}))
        return self.run(started, request, on_progress=on_progress, cancelled=cancelled)

    def run(
        self,
        started: editing.Started,
        request: EditRequest,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Session, Turn]:
        """Make the turn that `editing.look` found, from a request of its base's picture."""
        begun = editing.begin(self.store, started, request.num_images)
        result = self.engine.run([request], on_progress=on_progress, cancelled=cancelled)[0]
        after, made = editing.record(self.store, begun, request, result, self.examiner, self.owner)
        return after, made[0]

    def undo(self, session: str) -> Session:
        """Go back one turn.

        Raises:
            InvalidRequest: the head is the original.
        """
        found = self.store.get(session, self.owner)
        return self._to(found, found.undo, "undo")

    def redo(self, session: str) -> Session:
        """Take back the last undo.

        Raises:
            InvalidRequest: nothing was undone.
        """
        found = self.store.get(session, self.owner)
        return self._to(found, found.redo, "redo")

    def branch(self, session: str, turn: str) -> Session:
        """Go on from any turn; what came after it stays."""
        return self.store.move(session, turn, owner=self.owner)

    def picture(self, turn: Turn) -> Picture:
        """A turn's picture."""
        return editing.opened(self.store.pictures, turn.picture)

    def compare(self, session: str, first: str, second: str | None = None) -> Comparison:
        """Measure one turn beside another; None = the head."""
        found = self.store.get(session, self.owner)
        pair = found.turn(first), found.turn(second)
        return editing.compare(self.store.pictures, *pair, self.examiner)

    def _to(self, session: Session, turn: str | None, what: str) -> Session:
        if turn is None:
            raise InvalidRequest(f"there is nothing to {what}", field="turn")
        return self.store.move(session.id, turn, session.revision, self.owner)

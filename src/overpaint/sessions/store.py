"""Where sessions are kept: a database for the trees, a folder for the pictures.

A turn's pictures are on the disk before the turn is in the database, and a turn is in the database
in one transaction: however a process ends, each turn is there whole or not at all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, func, select, true

from overpaint.core.errors import InvalidRequest, SessionNotFound
from overpaint.sessions import database
from overpaint.sessions.database import files, mapped_errors, sessions, turns
from overpaint.sessions.pictures import GRACE_SECONDS, Pictures
from overpaint.sessions.rows import checked_name, read
from overpaint.sessions.types import Session, Summary, Turn, now

ANYONE = "anyone"
"""Owner of the sessions of the command line, and of a server without keys."""


@dataclass(frozen=True, kw_only=True)
class StoreLimits:
    """How much is kept.

    Attributes:
        sessions: of one owner.
        turns: of one session.
        gigabytes: of all pictures together.
    """

    sessions: int = 1000
    turns: int = 1000
    gigabytes: float = 100


class Store:
    """Sessions by id, each seen by its owner alone. Safe to use from several threads and processes.

    Args:
        url: of a database, as SQLAlchemy takes it.
        folder: of the pictures; processes that share the database share it, too.
        limits: how much is kept.

    Raises:
        InvalidSettings: the URL cannot be used.
        StoreUnavailable: database or folder cannot be reached. Every method may raise it.
    """

    def __init__(self, url: str, folder: Path, limits: StoreLimits | None = None) -> None:
        self.pictures = Pictures(folder)
        self.limits = limits or StoreLimits()
        self._engine = database.connect(url)
        self._writing = self._engine.execution_options(writes=True)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def create(self, name: str, original: Turn, owner: str = ANYONE) -> Session:
        """A new session.

        Args:
            name: up to 200 characters.
            original: its first turn; the pictures that it names are kept already.
            owner: whose it is.

        Raises:
            InvalidRequest: the name cannot be used, or there is no room for another session.
        """
        return self.insert(
            Session(
                id="",
                name=name,
                owner=owner,
                created=original.created,
                updated=original.created,
                head=original.id,
                tip=original.id,
                revision=1,
                turns=(original,),
            )
        )

    def insert(self, session: Session) -> Session:
        """Keep a whole session under a new id.

        Raises:
            InvalidRequest: as for `create`, or it has too many turns.
        """
        session = replace(session, id=f"s_{secrets.token_hex(16)}", name=checked_name(session.name))
        with self._transaction() as connection:
            self._check_room(connection, session.owner, len(session.turns))
            values = {
                "id": session.id,
                "owner": session.owner,
                "name": session.name,
                "created": session.created,
                "updated": session.updated,
                "head": int(session.head),
                "tip": int(session.tip),
                "revision": session.revision,
            }
            connection.execute(sessions.insert().values(**values))
            self._add(connection, session.id, session.turns)
        return session

    def summaries(
        self,
        owner: str = ANYONE,
        *,
        limit: int = 100,
        offset: int = 0,
        search: str = "",
        before: str | None = None,
    ) -> list[Summary]:
        """An owner's sessions, the one changed last first.

        Args:
            owner: whose.
            limit: so many at most.
            offset: without so many of the first.
            search: a part of their names, in any case; '' = all.
            before: only those that were last changed before this time (`types.stamp`); None = all.
        """
        turn_count = (
            select(func.count())
            .select_from(turns)
            .where(turns.c.session == sessions.c.id)
            .scalar_subquery()
        )
        size = (
            select(func.coalesce(func.sum(files.c.bytes), 0))
            .where(files.c.session == sessions.c.id)
            .scalar_subquery()
        )
        head = turns.alias()
        query = (
            select(sessions, turn_count.label("turns"), size.label("bytes"), head.c.thumbnail)
            .join(head, (head.c.session == sessions.c.id) & (head.c.number == sessions.c.head))
            .where(sessions.c.owner == owner)
            .where(sessions.c.name.icontains(search, autoescape=True))
            .where(true() if before is None else sessions.c.updated < before)
            .order_by(sessions.c.updated.desc(), sessions.c.id)
            .limit(limit)
            .offset(offset)
        )
        with mapped_errors(), self._engine.connect() as connection:
            return [
                Summary(
                    id=row.id,
                    name=row.name,
                    created=row.created,
                    updated=row.updated,
                    head=str(row.head),
                    revision=row.revision,
                    turns=row.turns,
                    thumbnail=row.thumbnail,
                    bytes=int(row.bytes),
                )
                for row in connection.execute(query)
            ]

    def get(self, id_: str, owner: str = ANYONE) -> Session:
        """A session.

        Raises:
            SessionNotFound: there is none of this id, or it is somebody else's.
        """
        with mapped_errors(), self._engine.begin() as connection:
            return read(connection, id_, owner)

    def find(self, words: str, owner: str = ANYONE) -> Session:
        """The session of that id, of the only id that starts so, or of the only such name.

        Raises:
            SessionNotFound: there is none, or more than one.
        """
        with mapped_errors(), self._engine.connect() as connection:
            rows = connection.execute(
                select(sessions.c.id, sessions.c.name, sessions.c.updated).where(
                    sessions.c.owner == owner
                )
            ).all()
        changed = {row.id: row.updated[:16].replace("T", " ") for row in rows}
        starts = words if words.startswith("s_") else f"s_{words}"
        for fits in (
            [row.id for row in rows if row.id == words],
            [row.id for row in rows if row.name == words],
            [row.id for row in rows if len(words) >= 4 and row.id.startswith(starts)],
        ):
            if len(fits) > 1:
                raise SessionNotFound(
                    f"{len(fits)} sessions fit '{words}'; say which by its id: "
                    + ", ".join(f"{id_} (changed {changed[id_]})" for id_ in fits),
                    field="session",
                )
            if fits:
                return self.get(fits[0], owner)
        raise SessionNotFound(
            f"there is no session '{words}'; `overpaint session list` shows them", field="session"
        )

    def reserve(
        self, id_: str, revision: int | None = None, owner: str = ANYONE, *, count: int = 1
    ) -> Session:
        """Begin an edit: from now on, a caller with an older revision gets a conflict.

        Args:
            id_: of the session.
            revision: that the caller knows; None = any.
            owner: whose it is.
            count: turns that will come.

        Raises:
            SessionConflict: somebody changed it since.
            SessionNotFound, InvalidRequest: it is gone, or full.
        """
        with self._changed(id_, revision, owner) as (connection, session):
            self._check_turns(len(session.turns) + count)
            self._check_bytes(connection)
        return replace(session, revision=session.revision + 1)

    def release(self, id_: str, revision: int, owner: str = ANYONE) -> None:
        """Take back what `reserve` did, for an edit that failed; not where others came since.

        Args:
            id_: of the session.
            revision: that `reserve` gave it.
            owner: whose it is.
        """
        row = sessions.c.id == id_, sessions.c.owner == owner, sessions.c.revision == revision
        with self._transaction() as connection:
            connection.execute(sessions.update().where(*row).values(revision=revision - 1))

    def append(
        self, id_: str, new_turns: Sequence[Turn], owner: str = ANYONE, *, head: str | None = None
    ) -> tuple[Session, tuple[Turn, ...]]:
        """Add the turns of one finished edit; it is never refused because others came first.

        Args:
            id_: of the session.
            new_turns: the best one first; ids are given here, and `candidate_of` of the others.
            owner: whose it is.
            head: where the session stood when the edit began. The first turn becomes the head
                where it still does; else it is a branch.

        Raises:
            SessionNotFound: the session is gone.
        """
        with self._changed(id_, None, owner) as (connection, session):
            first = int(session.turns[-1].id) + 1
            numbered = tuple(
                replace(turn, id=str(first + index), candidate_of=str(first) if index else None)
                for index, turn in enumerate(new_turns)
            )
            self._add(connection, id_, numbered)
            if head is None or head == session.head:
                connection.execute(
                    sessions.update().where(sessions.c.id == id_).values(head=first, tip=first)
                )
        return self.get(id_, owner), numbered

    def amend(
        self, id_: str, turn: str, change: Callable[[Turn], Turn], owner: str = ANYONE
    ) -> Turn:
        """Keep what was found out about a turn since; nobody's revision becomes old by that.

        Args:
            id_: of the session.
            turn: its id.
            change: makes the turn that takes the place of the one that is kept now.
            owner: whose the session is.

        Raises:
            SessionNotFound: the session is gone, or has no such turn.
        """
        with self._transaction() as connection:
            amended = change(read(connection, id_, owner).turn(turn))
            row = turns.c.session == id_, turns.c.number == int(turn)
            data = json.dumps(amended.as_json(), allow_nan=False)
            connection.execute(turns.update().where(*row).values(data=data))
        return amended

    def move(
        self, id_: str, turn: str, revision: int | None = None, owner: str = ANYONE
    ) -> Session:
        """Make a turn the head: undo, redo, restore, branch.

        Raises:
            SessionConflict: somebody changed the session since `revision`.
            SessionNotFound: no such session or turn.
        """
        with self._changed(id_, revision, owner) as (connection, session):
            target = session.turn(turn)
            behind = any(each.id == target.id for each in session.path(session.tip))
            tip = session.tip if behind else target.id
            connection.execute(
                sessions.update()
                .where(sessions.c.id == id_)
                .values(head=int(target.id), tip=int(tip))
            )
        return self.get(id_, owner)

    def rename(
        self, id_: str, name: str, revision: int | None = None, owner: str = ANYONE
    ) -> Session:
        """Give a session another name.

        Raises:
            InvalidRequest: the name cannot be used.
            SessionConflict, SessionNotFound: as for `move`.
        """
        name = checked_name(name)
        with self._changed(id_, revision, owner) as (connection, _):
            connection.execute(sessions.update().where(sessions.c.id == id_).values(name=name))
        return self.get(id_, owner)

    def delete(self, id_: str, revision: int | None = None, owner: str = ANYONE) -> None:
        """Forget a session; `collect` deletes its pictures.

        Raises:
            SessionConflict, SessionNotFound: as for `move`.
        """
        with self._changed(id_, revision, owner) as (connection, _):
            for table in (files, turns):
                connection.execute(table.delete().where(table.c.session == id_))
            connection.execute(sessions.delete().where(sessions.c.id == id_))

    def collect(self, *, grace: float = GRACE_SECONDS) -> tuple[int, int]:
        """Delete pictures that no session names and that are older than `grace` seconds.

        Returns:
            How many files, and how many bytes.
        """
        with mapped_errors(), self._engine.connect() as connection:
            keys = set(connection.execute(select(files.c.key).distinct()).scalars())
        return self.pictures.collect(keys, grace=grace)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with mapped_errors(), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _changed(
        self, id_: str, revision: int | None, owner: str
    ) -> Iterator[tuple[Connection, Session]]:
        """A change of a session that nobody else can disturb; its revision grows by one."""
        with self._transaction() as connection:
            row = sessions.c.id == id_, sessions.c.owner == owner
            # The update comes first: it makes others wait until this change is done.
            connection.execute(
                sessions.update()
                .where(*row)
                .values(revision=sessions.c.revision + 1, updated=now())
            )
            session = read(connection, id_, owner)
            session = replace(session, revision=session.revision - 1)
            session.check_revision(revision)
            yield connection, session

    def _add(self, connection: Connection, id_: str, new_turns: Sequence[Turn]) -> None:
        rows = [
            {
                "session": id_,
                "number": int(turn.id),
                "thumbnail": turn.thumbnail,
                "data": json.dumps(turn.as_json(), allow_nan=False),
            }
            for turn in new_turns
        ]
        connection.execute(turns.insert(), rows)
        there = select(files.c.key).where(files.c.session == id_)
        stored_keys = set(connection.execute(there).scalars())
        keys = dict.fromkeys(
            key for turn in new_turns for key in turn.files if key not in stored_keys
        )
        records = [{"session": id_, "key": key, "bytes": self.pictures.size(key)} for key in keys]
        if records:
            connection.execute(files.insert(), records)

    def _check_room(self, connection: Connection, owner: str, count: int) -> None:
        query = select(func.count()).select_from(sessions).where(sessions.c.owner == owner)
        if connection.execute(query).scalar_one() >= self.limits.sessions:
            raise InvalidRequest(
                f"there are {self.limits.sessions} sessions already; delete one", field="session"
            )
        self._check_turns(count)
        self._check_bytes(connection)

    def _check_turns(self, count: int) -> None:
        if count > self.limits.turns:
            raise InvalidRequest(
                f"a session has {self.limits.turns} turns at most; begin a new one with the "
                "picture that you want to go on with",
                field="session",
            )

    def _check_bytes(self, connection: Connection) -> None:
        total = connection.execute(select(func.coalesce(func.sum(files.c.bytes), 0))).scalar_one()
        if total >= self.limits.gigabytes * 1e9:
            raise InvalidRequest(
                f"the sessions fill the {self.limits.gigabytes:g} GB that they may; delete some",
                field="session",
            )

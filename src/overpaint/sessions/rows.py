"""Between rows of the database and sessions."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from overpaint.core.errors import InvalidRequest, SessionNotFound, StoreUnavailable
from overpaint.sessions.database import sessions, turns
from overpaint.sessions.types import Session, Turn

MAX_NAME = 200


def checked_name(name: str) -> str:
    """A session's name, without space around it.

    Raises:
        InvalidRequest: it is empty or too long, or has control characters.
    """
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidRequest(
            f"a name has 1 to {MAX_NAME} characters that can be printed", field="name"
        )
    return name


def read(connection: Connection, id_: str, owner: str) -> Session:
    """A session with its turns.

    Raises:
        SessionNotFound: there is none of this id, or it is somebody else's.
        StoreUnavailable: a later version wrote it.
    """
    query = select(sessions).where(sessions.c.id == id_, sessions.c.owner == owner)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise SessionNotFound("there is no session of this id", field="session")
    rows = connection.execute(
        select(turns.c.data).where(turns.c.session == id_).order_by(turns.c.number)
    )
    return Session(
        id=row.id,
        name=row.name,
        owner=row.owner,
        created=row.created,
        updated=row.updated,
        head=str(row.head),
        tip=str(row.tip),
        revision=row.revision,
        turns=tuple(_turn(data) for data in rows.scalars()),
    )


def _turn(data: str) -> Turn:
    try:
        return Turn.from_json(json.loads(data))
    except ValueError as error:
        raise StoreUnavailable(f"a turn cannot be read: {error}") from error

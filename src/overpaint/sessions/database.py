"""The tables of sessions, and the one place where SQLAlchemy's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from overpaint.core.errors import InvalidSettings, StoreUnavailable

VERSION = 1
"""Of the tables; a store of another version is refused, not guessed at."""

BUSY_SECONDS = 30

metadata = MetaData()

sessions = Table(
    "overpaint_sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created", String(30), nullable=False),
    Column("updated", String(30), nullable=False),
    Column("head", Integer, nullable=False),
    Column("tip", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("overpaint_sessions_by_owner", "owner", "updated"),
)

turns = Table(
    "overpaint_turns",
    metadata,
    Column("session", ForeignKey("overpaint_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("thumbnail", String(64), nullable=False),
    Column("data", Text, nullable=False),  # Turn.as_json
)

files = Table(
    "overpaint_files",
    metadata,
    Column("session", ForeignKey("overpaint_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("bytes", Integer, nullable=False),
)

about = Table(
    "overpaint_store",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)


def connect(url: str) -> Engine:
    """Open a database, and make its tables where they are missing.

    Raises:
        InvalidSettings: it is no URL of a database, or its driver is not installed.
        StoreUnavailable: it cannot be reached, or its tables are of another version.
    """
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, pool_pre_ping=True, **_arguments(parsed))
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise InvalidSettings(
            f"the URL names no database that can be used here ({type(error).__name__}: {error}); "
            "for PostgreSQL: pip install 'overpaint[postgres]', and a URL that starts with "
            "postgresql+psycopg://",
            field="sessions.url",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    with mapped_errors():
        _make_tables(engine)
    return engine


@contextmanager
def mapped_errors() -> Iterator[None]:
    """The database's errors → `StoreUnavailable`."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        lines = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise StoreUnavailable(
            f"the database of sessions failed: {lines[0] if lines else type(error).__name__}"
        ) from error


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    return {}


def _on_connect(connection: Any, _record: Any) -> None:
    # The driver begins no transactions of its own: `_on_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # Commits survive a loss of power, too.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A reader that starts to write later may have to fail; so writers say so at once.
    wants = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if wants else "BEGIN")


def _make_tables(engine: Engine) -> None:
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            # Two processes that start at the same time must not both make them.
            connection.execute(text("SELECT pg_advisory_xact_lock(7073486129)"))
        if not inspect(connection).has_table(about.name):
            metadata.create_all(connection)
            connection.execute(about.insert().values(version=VERSION))
        version = connection.execute(about.select()).scalar_one()
    if version != VERSION:
        raise StoreUnavailable(
            f"the sessions were kept by another version of Overpaint (tables {version}, here "
            f"{VERSION}); use that version, or another [sessions] url"
        )

"""Stores on SQLite and on a PostgreSQL of the test's own, and turns to put into them."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from overpaint.core.imaging.images import Picture
from overpaint.sessions import recording
from overpaint.sessions.store import Store
from tests.conftest import picture

PASSWORD = "overpaint-in-a-test"


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    """A store on SQLite."""
    made = Store(f"sqlite:///{tmp_path / 'sessions.db'}", tmp_path / "kept" / "pictures")
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL that nobody else uses: it listens on a socket in its own folder."""
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = "nobody" if getpass.getuser() == "root" else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="overpaint-postgres-"))
    if user:
        shutil.chown(folder, user)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data = folder / "data"
    subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={data}",
            "--username=overpaint",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "--encoding=UTF8",
            "--locale=C",
        ],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    server = subprocess.Popen(
        [programs / "postgres", *("-D", data, "-h", "", "-k", folder, "-c", "fsync=off")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        cwd=folder,
    )
    try:
        wait_for(folder, server)
        yield f"postgresql+psycopg://overpaint:{PASSWORD}@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def programs_of_postgres() -> Path | None:
    """The folder of `initdb` and `postgres`."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


def wait_for(folder: Path, server: subprocess.Popen) -> None:
    """Wait until it takes connections; it listens before that, and refuses them."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, "PostgreSQL did not start"
        with suppress(psycopg.OperationalError):
            psycopg.connect(
                host=str(folder), user="overpaint", password=PASSWORD, dbname="postgres"
            ).close()
            return
        time.sleep(0.05)
    raise AssertionError("PostgreSQL does not answer")


@pytest.fixture(params=["sqlite", "postgres"])
def any_store(request, tmp_path) -> Iterator[Store]:
    """A store on either database, empty."""
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
    made = Store(url, tmp_path / "kept" / "pictures")
    for owner in ("anyone", "somebody"):
        for each in made.summaries(owner):
            made.delete(each.id, owner=owner)
    yield made
    made.close()


def begun(store: Store, name: str = "kite", owner: str = "anyone"):
    """A new session."""
    original = recording.original_turn(store.pictures, Picture.from_pil(picture(64, 48)))
    return store.create(name, original, owner)


def a_turn(store: Store, parent: str = "0", seed: int = 1, **more):
    """A turn that is not in a session yet."""
    original = recording.original_turn(store.pictures, Picture.from_pil(picture(64, 48, seed)))
    return replace(original, id="", parent=parent, kind="edit", prompt="a cat", **more)

"""Where the settings say that sessions are kept."""

from __future__ import annotations

import sys

import pytest

from overpaint.apps import settings as settings_
from overpaint.apps.wiring import sessions
from overpaint.core.errors import InvalidSettings


@pytest.fixture
def load(tmp_path):
    """(text) → settings of a file with it."""

    def loaded(text: str):
        file = tmp_path / "overpaint.toml"
        file.write_text(text, encoding="utf-8")
        return settings_.load({"OVERPAINT_CONFIG": str(file)})

    return loaded


@pytest.mark.skipif(sys.platform == "win32", reason="another variable")
def test_the_users_data_folder_is_the_default(tmp_path):
    table = settings_.Settings().sessions
    assert table.place({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "overpaint" / "sessions"
    home = {"HOME": str(tmp_path)}
    assert table.place(home) == tmp_path / ".local" / "share" / "overpaint" / "sessions"


def test_folder_limits_and_thresholds(load, tmp_path):
    loaded = load(
        '[sessions]\nfolder = "kept"\nmax_turns = 7\nmax_gb = 2\n[sessions.warn]\nkept_psnr = 50'
    )
    store = sessions.store(loaded)
    assert (tmp_path / "kept" / "sessions.db").is_file()
    assert (store.limits.turns, store.limits.gigabytes) == (7, 2)
    assert sessions.examiner(loaded).thresholds.kept_psnr == 50
    store.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sessions]\nmax_turn = 3", "did you mean max_turns"),
        ("[sessions.warn]\nkept_psn = 3", "did you mean kept_psnr"),
        ('[judge]\nbase_url = "http://x"', "base_url needs a model"),
        ('[judge]\nbase_url = "x"', "judge.base_url"),
    ],
)
def test_mistakes_are_named(load, text, said):
    with pytest.raises(InvalidSettings, match=said):
        load(text)


def test_passwords_are_not_shown(load):
    loaded = load('[sessions]\nurl = "postgresql://me:secret@db/x"\n[judge]\nkey = "secret"')
    assert "secret" not in repr(loaded)

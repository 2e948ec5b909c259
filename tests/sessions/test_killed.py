"""`kill -9` at any moment: what was finished is there, and the session goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overpaint.core.imaging import images
from overpaint.sessions.store import Store
from tests.sessions.conftest import a_turn, begun

ROOT = Path(__file__).parents[2]

APPENDING = """
import sys
from pathlib import Path
from overpaint.sessions.store import Store
from tests.sessions.conftest import a_turn

store = Store(sys.argv[1], Path(sys.argv[2]))
for seed in range(10_000):
    session, [turn] = store.append(sys.argv[3], [a_turn(store, "0", seed)])
    print(turn.id, flush=True)
"""

EDITING = """
import sys
from pathlib import Path
import torch
from overpaint.checkpoints.checkpoint import Checkpoint
from overpaint.checkpoints.placement import Placement
from overpaint.families.flux1 import KONTEXT_FAMILY
from overpaint.engine.engine import Engine
from overpaint.engine.model import Model
from overpaint.sessions import Editor, Store

def load(name):
    placement = Placement(torch.device("cpu"), torch.float32)
    checkpoint = Checkpoint(Path(sys.argv[4]), KONTEXT_FAMILY.components, placement)
    family = KONTEXT_FAMILY.open(checkpoint)
    return Model(family, checkpoint, record={"name": name})

editor = Editor.with_engine(
    Engine(load, "kontext"), store=Store(sys.argv[1], Path(sys.argv[2]))
)
editor.edit(sys.argv[3], "a cat", num_inference_steps=2, seed=1)
print("finished", flush=True)
editor.edit(
    sys.argv[3], "a dog", num_inference_steps=1000,
    on_progress=lambda told: print("step", flush=True),
)
"""


@pytest.fixture
def place(tmp_path):
    """URL and folder of a store, and the id of a session in it."""
    url, folder = f"sqlite:///{tmp_path / 'sessions.db'}", tmp_path / "pictures"
    store = Store(url, folder)
    session = begun(store)
    store.close()
    return url, folder, session.id


def start(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def killed(process: subprocess.Popen) -> list[str]:
    """Kill it; what it had printed and nobody had read."""
    process.send_signal(signal.SIGKILL)
    left = process.stdout.read().split()
    assert process.wait(30) == -signal.SIGKILL
    process.stdout.close()
    return left


def check_whole(store: Store, id_: str) -> list[str]:
    """Every turn's pictures are there and can be decoded; ids of the turns."""
    session = store.get(id_)
    assert session.head in {turn.id for turn in session.turns}
    for turn in session.turns:
        for key in turn.files:
            assert images.decode(store.pictures.get(key)).size
    return [turn.id for turn in session.turns]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
def test_turns_that_were_finished_are_there(place):
    url, folder, id_ = place
    finished: set[str] = set()
    for milliseconds in (3, 20, 55):
        process = start(APPENDING, *place)
        finished.add(process.stdout.readline().strip())
        time.sleep(milliseconds / 1000)
        finished.update(killed(process))
        store = Store(url, folder)
        there = check_whole(store, id_)
        assert finished <= set(there)
        assert there == [str(number) for number in range(len(there))]
        after, _ = store.append(id_, [a_turn(store, there[-1])])
        assert len(after.turns) == len(there) + 1
        store.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9")
def test_an_edit_that_was_killed_leaves_the_turns_before_it(place, checkpoint_folder):
    url, folder, id_ = place
    process = start(EDITING, *place, checkpoint_folder("kontext"))
    assert process.stdout.readline().strip() == "finished"
    assert process.stdout.readline().strip() == "step"
    assert "finished" not in killed(process)
    store = Store(url, folder)
    assert check_whole(store, id_) == ["0", "1"]
    session = store.get(id_)
    assert session.head == "1"
    after, _ = store.append(id_, [a_turn(store, "1")], head=session.head)
    assert after.head == "2"
    store.close()

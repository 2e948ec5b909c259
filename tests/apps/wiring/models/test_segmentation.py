"""The judge's vision model as the one who says where the thing is that an instruction names."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from overpaint.apps.settings import JudgeSettings, Settings
from overpaint.apps.wire.errors import status_of
from overpaint.apps.wiring.models import segmentation
from overpaint.core.errors import InvalidSettings, LocatorUnavailable
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.checking import check
from overpaint.engine.intake import request_of
from tests import faulty_family
from tests.conftest import picture
from tests.datasets import vision_server
from tests.datasets.vision_server import Fault as ServerFault
from tests.faults import Fault

SIDE = 128
SMALL = (104, 104, 116, 116)


@pytest.fixture
def judge():
    """A vision server that sees the small box, and nothing else."""

    def answer(_picture, words):
        assert "- the blue box" in words
        shares = [side / SIDE for side in SMALL]
        return {"objects": [{"label": "the blue box", "confidence": 0.9, "box": shares}]}

    with vision_server.serving(answer) as server:
        yield server


def locator(judge):
    table = JudgeSettings(base_url=judge.url, model="eye")
    return segmentation.locator(Settings(judge=table, target_segmenter="judge"))


@pytest.fixture
def before():
    return np.asarray(picture(SIDE, SIDE))


@pytest.fixture
def engine(judge, before):
    """One whose model changes a large area, and the small box far from it."""
    after = before.copy()
    after[10:70, 10:60] = (200, 30, 30)
    after[104:116, 104:116] = (30, 30, 200)
    engine = faulty_family.engine(after, Fault())
    engine.locator = locator(judge)
    return engine


def test_a_judge_has_to_be_there():
    with pytest.raises(InvalidSettings, match=r"set judge\.base_url"):
        segmentation.locator(Settings(target_segmenter="judge"))


def test_what_changed_far_from_its_box_is_put_back(judge, engine, before):
    result = engine.edit(before, "Paint the blue box.", seed=1)
    assert [each["kept"] for each in result.measures[0]["areas"]] == [False, True]
    assert (np.asarray(result.images[0])[:90, :90] == before[:90, :90]).all()
    assert result.recipe["target_found"] == {"by": "eye", "words": "the blue box"}
    judge.answer = lambda *_: {"objects": []}
    result = engine.edit(before, "Paint the blue box.", seed=1)
    assert [each["kept"] for each in result.measures[0]["areas"]] == [True, False]
    assert "target_found" not in result.recipe


@pytest.mark.parametrize("fault", ["500", "refusal", "garbage"])
def test_without_an_answer_there_is_no_edit(judge, engine, before, fault):
    def answer(*_):
        raise ServerFault(fault)

    judge.answer = answer
    with pytest.raises(LocatorUnavailable, match=r"'eye'.*unset target_segmenter") as failed:
        engine.edit(before, "Paint the blue box.", seed=1)
    assert status_of(failed.value) == 503


def test_no_other_edit_waits_for_the_judge(judge, engine, before):
    heard = []

    class Noted:
        name, waits = engine.locator.name, True
        model = engine.locator

        def place(self, image, words):
            heard.append(threading.current_thread().name)
            return self.model.place(image, words)

    engine.locator = Noted()
    request = request_of({"image": before, "prompt": "Paint the blue box.", "seed": 1})
    running = Batcher(engine)
    try:
        result = running.submit(check(faulty_family.SPEC, request)).result(60)
    finally:
        running.close()
    assert [each["kept"] for each in result.measures[0]["areas"]] == [False, True]
    assert [name.startswith("safety") for name in heard] == [True]

from __future__ import annotations

import pytest

from overpaint.core.imaging.images import Picture
from overpaint.datasets.recipes.sections import Vision
from overpaint.datasets.vision.client import VisionFailed, VisionModel
from tests.datasets.conftest import noisy
from tests.datasets.vision_server import Fault, serving


def model(url: str, **others: object) -> VisionModel:
    given = {"base_url": url, "model": "m", "timeout_s": 60, "retries": 1, **others}
    return VisionModel(Vision.model_validate(given), "key")


def objects(*boxes: list[float], label: str = "a cat") -> dict[str, object]:
    return {"objects": [{"label": label, "confidence": 0.9, "box": box} for box in boxes]}


PICTURE = Picture(noisy(1, (200, 100)))


@pytest.mark.parametrize(
    ("boxes", "given"),
    [
        ("shares", [0.25, 0.5, 0.75, 1.0]),
        ("pixels", [25, 25, 75, 50]),  # of the picture as it was sent: 100 x 50
        ("yxyx1000", [500, 250, 1000, 750]),
    ],
)
def test_boxes_of_every_kind_of_model(boxes: str, given: list[float]) -> None:
    with serving(lambda *_: objects(given)) as server:
        found = model(server.url, boxes=boxes, longest_side=100).find(PICTURE, ["a cat"]).things
    assert [each.box for each in found] == [(50.0, 50.0, 150.0, 100.0)]
    assert (found[0].label, found[0].confidence) == ("a cat", 0.9)


def test_what_is_sent() -> None:
    with serving(lambda *_: {"true": True, "score": 0.7}) as server:
        assert model(server.url).is_true(PICTURE, "an old man, eating") == (True, 0.7)
        body = server.requests[0]
    assert "an old man, eating" in server.asked[0]
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["true", "score"]
    assert schema["schema"]["additionalProperties"] is False
    assert body["temperature"] == 0


def test_labels_that_nobody_asked_for_are_left_out() -> None:
    with serving(lambda *_: objects([0, 0, 1, 1], label="a dog")) as server:
        assert model(server.url).find(PICTURE, ["a cat"]).things == []


@pytest.mark.parametrize(
    ("kind", "fault", "attempts"),
    [
        ("timeout", "timeout", 2),
        ("garbage", "unreadable", 2),
        ("wrong", "unreadable", 2),
        ("refusal", "refused", 1),
        ("filtered", "refused", 1),
        ("429", "busy", 2),
        ("503", "unreachable", 2),
        ("401", "denied", 1),
    ],
)
def test_every_fault_has_its_name(kind: str, fault: str, attempts: int) -> None:
    def answer(*_: object) -> None:
        raise Fault(kind)

    with serving(answer) as server, pytest.raises(VisionFailed) as caught:
        model(server.url, timeout_s=0.5 if kind == "timeout" else 60).is_true(PICTURE, "a cat")
    assert caught.value.fault == fault
    assert caught.value.code == "vision_failed"
    assert len(server.asked) == attempts


def test_nobody_there() -> None:
    with serving(lambda *_: {}) as server:
        url = server.url
    with pytest.raises(VisionFailed) as caught:
        model(url, retries=0).is_true(PICTURE, "a cat")
    assert caught.value.fault == "unreachable"


@pytest.mark.parametrize("box", [[0, 0, 1], [0.5, 0.5, 0.5, 0.9], [25, 25, 75, 50]])
def test_boxes_that_are_none(box: list[float]) -> None:
    with serving(lambda *_: objects(box)) as server, pytest.raises(VisionFailed, match="box"):
        model(server.url, retries=0).find(PICTURE, ["a cat"])


def test_a_second_answer_can_be_better() -> None:
    answers = iter([Fault("garbage"), {"true": False, "score": 0.1}])

    def answer(*_: object) -> object:
        given = next(answers)
        if isinstance(given, Fault):
            raise given
        return given

    with serving(answer) as server:
        assert model(server.url).is_true(PICTURE, "a cat") == (False, 0.1)

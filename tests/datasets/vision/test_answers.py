"""Forty kinds of a vision model's answers through OpenAI's own client, and what becomes of each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from overpaint.core.imaging.images import Picture
from overpaint.datasets.recipes.sections import Vision
from overpaint.datasets.vision.client import VisionFailed, VisionModel
from tests.datasets.conftest import noisy
from tests.datasets.vision_server import Reply, Text, serving

PICTURE = Picture(noisy(1, (200, 100)))
WANTED = ["a cat", "traffic cone"]
CAT = [("a cat", (50.0, 50.0, 150.0, 100.0), 0.9)]
UNSURE = [("a cat", (50.0, 50.0, 150.0, 100.0), None)]
BOX = [0.25, 0.5, 0.75, 1.0]
THING = {"label": "a cat", "confidence": 0.9, "box": BOX}
GOOD = json.dumps({"objects": [THING]})


def thing(**keys: Any) -> str:
    return json.dumps({"objects": [{**THING, **keys}]})


def named(key: str, value: Any = BOX) -> str:
    return json.dumps([{"label": "a cat", "confidence": 0.9, key: value}])


def completion(**choice: Any) -> Reply:
    message = {"role": "assistant", "content": None, **choice.pop("message", {})}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", **choice}]
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": choices}))


READ: dict[str, tuple[Any, Any]] = {
    "as asked": (Text(GOOD), CAT),
    "fenced": (Text(f"```json\n{GOOD}\n```"), CAT),
    "fenced without a name": (Text(f"```\n{GOOD}\n```"), CAT),
    "words before": (Text(f"Here is what I found:\n{GOOD}"), CAT),
    "words after": (Text(f"{GOOD}\nLet me know if you need more!"), CAT),
    "words and a fence": (Text(f"Sure!\n```json\n{GOOD}\n```\nDone."), CAT),
    "thoughts": (Text(f"<think>I see {{a cat}} [1]</think>{GOOD}"), CAT),
    "thoughts with JSON in them": (Text(f'<think>{{"objects": []}}</think>\n{GOOD}'), CAT),
    "thoughts without a start": (Text(f"a cat, it seems</think>\n{GOOD}"), CAT),
    "a bare list": (Text(json.dumps([THING])), CAT),
    "a bare thing": (Text(json.dumps(THING)), CAT),
    "another name of the list": (Text(json.dumps({"detections": [THING]})), CAT),
    "bbox_2d": (Text(named("bbox_2d")), CAT),
    "box_2d": (Text(named("box_2d")), CAT),
    "bbox": (Text(named("bbox")), CAT),
    "a box as text": (Text(named("box", "[0.25, 0.5, 0.75, 1.0]")), CAT),
    "two points": (Text(named("box", [[0.25, 0.5], [0.75, 1.0]])), CAT),
    "sides by name": (Text(named("box", {"x1": 0.25, "y1": 0.5, "x2": 0.75, "y2": 1.0})), CAT),
    "width and height": (
        Text(named("box", {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.5})),
        CAT,
    ),
    "labels as keys": (Text(json.dumps({"a cat": [BOX]})), UNSURE),
    "no confidence": (Text(json.dumps([{"label": "a cat", "bbox_2d": BOX}])), UNSURE),
    "null for confidence": (Text(thing(confidence=None)), UNSURE),
    "confidence of a hundred": (Text(thing(confidence=90)), CAT),
    "confidence in percent": (Text(thing(confidence="90%")), CAT),
    "confidence in a word": (Text(thing(confidence="high")), CAT),
    "further keys": (Text(thing(colour="grey", description="sits")), CAT),
    "literals of Python": (Text(str({"objects": [THING]})), CAT),
    "another case": (Text(thing(label="A Cat")), CAT),
    "without the article": (Text(thing(label="cat")), CAT),
    "in the plural": (Text(thing(label="the cats.")), CAT),
    "content in parts": (completion(message={"content": [{"type": "text", "text": GOOD}]}), CAT),
    "nothing there": (Text('{"objects": []}'), []),
    "a label nobody asked for": (Text(thing(label="a dog")), []),
}

FAULTS: dict[str, tuple[Any, str, str]] = {
    "no JSON": (Text("I see a {circle"), "unreadable", "no JSON"),
    "nothing": (Text(""), "unreadable", "no JSON"),
    "another schema": (Text('{"objects": "many"}'), "unreadable", "lists no things"),
    "a box of three numbers": (Text(named("box", [0, 0, 1])), "unreadable", "3 numbers"),
    "a box without area": (Text(named("box", [0.5, 0.5, 0.5, 0.9])), "unreadable", "no area"),
    "no box": (Text('["a cat"]'), "unreadable", "no box"),
    "cut off": (
        completion(message={"content": GOOD[:40]}, finish_reason="length"),
        "unreadable",
        "cut off",
    ),
    "a refusal": (completion(message={"refusal": "I cannot help."}), "refused", "I cannot help"),
    "filtered": (completion(finish_reason="content_filter"), "refused", "filtered"),
    "no choices": (Reply('{"id": "1", "choices": []}'), "unreadable", "empty"),
    "a web page": (Reply("<html>login</html>", kind="text/html"), "unreachable", "web page"),
    "broken JSON": (Reply('{"choices": ['), "unreachable", "no answer of the API"),
    "an error with status 200": (
        Reply('{"error": {"message": "overloaded"}, "choices": null}'),
        "unreachable",
        "overloaded",
    ),
    "a wrong key": (Reply('{"error": {"message": "x"}}', status=401), "denied", "refused the key"),
    "no such model": (Reply('{"error": {"message": "x"}}', status=404), "denied", "404"),
}


def model(url: str, **others: Any) -> VisionModel:
    given = {"base_url": url, "model": "m", "timeout_s": 60, "retries": 0, **others}
    return VisionModel(Vision.model_validate(given), "key")


def test_the_table_has_forty_kinds() -> None:
    assert len(READ) + len(FAULTS) >= 40


@pytest.mark.parametrize("kind", READ)
def test_what_is_read(kind: str) -> None:
    answer, expected = READ[kind]
    with serving(lambda *_: answer) as server:
        seen = model(server.url).find(PICTURE, WANTED)
    assert [(each.label, each.box, each.confidence) for each in seen.things] == expected
    assert seen.unknown == ({"a dog": 1} if "nobody" in kind else {})


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_a_fault(kind: str) -> None:
    answer, fault, said = FAULTS[kind]
    with serving(lambda *_: answer) as server, pytest.raises(VisionFailed, match=said) as caught:
        model(server.url).find(PICTURE, WANTED)
    assert caught.value.fault == fault
    assert "retries" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"true": true, "score": 0.7}', (True, 0.7)),
        ("```json\n{'true': False, 'score': 0.2}\n```", (False, 0.2)),
        ('{"answer": "yes", "score": 8}', (True, 0.8)),
        ('<think>no, or</think>{"true": "No"}', (False, 0.0)),
        ("Yes, it does.", (True, 1.0)),
        ("**No**", (False, 0.0)),
    ],
)
def test_yes_and_no(text: str, expected: tuple[bool, float]) -> None:
    with serving(lambda *_: Text(text)) as server:
        assert model(server.url).is_true(PICTURE, "a cat") == expected


WAYS = {
    "shares": lambda x, y, shown: [x[0], y[0], x[1], y[1]],
    "pixels": lambda x, y, shown: [
        x[0] * shown[0],
        y[0] * shown[1],
        x[1] * shown[0],
        y[1] * shown[1],
    ],
    "xyxy1000": lambda x, y, shown: [1000 * v for v in (x[0], y[0], x[1], y[1])],
    "yxyx1000": lambda x, y, shown: [1000 * v for v in (y[0], x[0], y[1], x[1])],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_way_of_boxes_is_found_by_a_probe(way: str) -> None:
    def answer(image: Any, words: str) -> Any:
        if "red rectangle" in words:  # a model that looks: where is the red?
            red = image.split()[1].point(lambda value: 255 * (value < 100)).getbbox()
            x, y = (
                (red[0] / image.width, red[2] / image.width),
                (red[1] / image.height, red[3] / image.height),
            )
            return [{"label": "red rectangle", "bbox_2d": WAYS[way](x, y, image.size)}]
        return [{"label": "a cat", "bbox_2d": WAYS[way]((0.25, 0.75), (0.5, 1.0), image.size)}]

    with serving(answer) as server:
        vision = model(server.url, longest_side=100)
        for _ in range(2):
            (cat,) = vision.find(PICTURE, WANTED).things
            assert cat.box == pytest.approx((50, 50, 150, 100), abs=2)
        assert len(server.asked) == (2 if way == "shares" else 3)  # the probe is asked once


def test_a_probe_that_shows_nothing_says_what_to_do() -> None:
    answer = [{"label": "a cat", "box": [700, 300, 10, 20]}]
    with serving(lambda *_: answer) as server, pytest.raises(VisionFailed, match="say how with"):
        model(server.url).find(PICTURE, WANTED)


def refusing(server: Any, *parameters: str) -> Any:
    """An answer, or the refusal of the first of these parameters that a request has."""
    body = server.requests[-1]
    for name in parameters:
        kind = body.get("response_format", {}).get("type")
        if name in body or name == kind:
            told = {"error": {"message": f"Unsupported parameter: '{name}'", "param": name}}
            return Reply(json.dumps(told), status=400)
    return Text(GOOD)


@pytest.mark.parametrize(
    ("parameters", "has", "lacks"),
    [
        (("max_tokens",), {"max_completion_tokens", "seed"}, {"max_tokens"}),
        (("max_tokens", "max_completion_tokens"), {"seed"}, {"max_tokens"}),
        (("temperature", "seed", "max_tokens"), {"max_completion_tokens"}, {"seed", "temperature"}),
        (("json_schema",), {"response_format", "seed"}, set()),
        (("json_schema", "json_object"), {"seed"}, {"response_format"}),
    ],
)
def test_what_a_server_takes_is_found_once(
    parameters: tuple[str, ...], has: set[str], lacks: set[str]
) -> None:
    with serving(lambda *_: refusing(server, *parameters)) as server:
        vision = model(server.url)
        assert len(vision.find(PICTURE, WANTED).things) == 1
        tries = len(server.requests)
        assert tries == len(parameters) + 1
        assert len(vision.find(PICTURE, WANTED).things) == 1
        assert len(server.requests) == tries + 1
    body = server.requests[-1]
    assert has <= set(body)
    assert not lacks & set(body)
    if body.get("response_format", {}).get("type") != "json_schema":
        assert "Answer with JSON" in server.asked[-1]


def test_a_server_that_refuses_without_a_word_is_asked_for_less() -> None:
    def answer(*_: Any) -> Any:
        plain = set(server.requests[-1]) == {"model", "messages"}
        return Text(GOOD) if plain else Reply('{"detail": "bad request"}', status=422)

    with serving(answer) as server:
        assert len(model(server.url).find(PICTURE, WANTED).things) == 1


def test_labels_are_an_enum_of_the_schema() -> None:
    with serving(lambda *_: Text(GOOD)) as server:
        vision = model(server.url)
        vision.find(PICTURE, WANTED)
        vision.name(PICTURE)
    first, second = (body["response_format"]["json_schema"]["schema"] for body in server.requests)
    label = first["properties"]["objects"]["items"]["properties"]["label"]
    assert label["enum"] == WANTED
    assert "enum" not in second["properties"]["objects"]["items"]["properties"]["label"]

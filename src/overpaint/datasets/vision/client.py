"""A vision model behind an OpenAI-compatible API: what is in a picture, and is this true of it.

Answers are asked for as JSON by a schema, as far as the server knows that, and read in whatever
form they come (`answers`). Every failure has a name (`VisionFailed.fault`), which says why a
picture was not looked at.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from PIL import Image

from overpaint.core.errors import OverpaintError
from overpaint.core.imaging import images
from overpaint.core.imaging.detections import Detection
from overpaint.core.imaging.images import Picture
from overpaint.datasets.recipes import labels
from overpaint.datasets.recipes.sections import Vision
from overpaint.datasets.vision import answers, boxes
from overpaint.datasets.vision.answers import Thing, Truth, Unreadable
from overpaint.datasets.vision.dialect import LONGEST_ANSWER, Dialect

if TYPE_CHECKING:
    from openai import OpenAI

Fault = Literal["timeout", "unreachable", "busy", "refused", "unreadable", "denied"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class VisionFailed(OverpaintError):
    """The vision model gave no answer that can be used.

    Attributes:
        fault: 'timeout', 'unreachable' (or a server error, or no API there), 'busy', 'refused' (it
            would not say), 'unreadable' (no answer of that kind), 'denied' (key, model or request
            refused).
    """

    code: ClassVar[str] = "vision_failed"

    def __init__(self, message: str, *, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Sighting:
    """The things that were seen in a picture.

    Attributes:
        things: boxes in the picture's pixels; labels as they were asked for, if they were.
        unknown: how many things had a label that was not asked for, by label.
    """

    things: list[Detection]
    unknown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Question:
    """A question: its words, the form of the answer, and an example for servers without schemas."""

    name: str
    words: str
    schema: dict[str, Any]
    example: str


class VisionModel:
    """Asks the model of a recipe. Safe to use from several threads.

    Args:
        section: where it is and how it answers.
        key: for the server; None = it needs none.
    """

    def __init__(self, section: Vision, key: str | None = None) -> None:
        import openai

        self._section = section
        # The client repeats timeouts, busy answers and server errors by itself.
        self._client: OpenAI = openai.OpenAI(
            base_url=section.base_url,
            api_key=key or "none",
            timeout=section.timeout_s,
            max_retries=section.retries,
        )
        self._dialect = Dialect()
        self._way: str | None = None if section.boxes == "auto" else section.boxes
        self._lock = threading.Lock()

    def find(self, picture: Picture, vocabulary: Sequence[str]) -> Sighting:
        """Which labels of the vocabulary are in the picture, and where.

        Raises:
            VisionFailed: see its `fault`.
        """
        listing = "\n".join(f"- {label}" for label in vocabulary)
        words = (
            "Which of the following are in the picture? List each thing that is really there, "
            f"with the label exactly as written here:\n{listing}\n{self._where()} "
            "Leave out what is not there."
        )
        return self._sighting(picture, _things_question(words, vocabulary), vocabulary)

    def name(self, picture: Picture) -> Sighting:
        """What is in the picture, in the model's own words, and where.

        Raises:
            VisionFailed: see its `fault`.
        """
        words = (
            "What is in this picture? List each thing, small ones, texts and marks too, with a "
            f"label of one to three words, such as 'a traffic cone'. {self._where()}"
        )
        return self._sighting(picture, _things_question(words, None), None)

    def is_true(self, picture: Picture, statement: str) -> tuple[bool, float]:
        """Whether the picture shows what the words say, and how well (0..1).

        Raises:
            VisionFailed: see its `fault`.
        """
        words = (
            f"Does the picture show this: {statement}? Answer 'true' or not, and give a score "
            "from 0 (not at all) to 1 (clearly, without faults)."
        )
        question = _Question("truth", words, _TRUTH, '{"true": true, "score": 0.9}')
        truth: Truth = self._ask(self._thumbnail(picture), question, answers.truth)
        return truth.true, truth.score

    def write(self, words: str) -> str:
        """The answer to words without a picture, as text.

        Raises:
            VisionFailed: see its `fault`.
        """

        def text(answer: str) -> str:
            if not (plain := answers.plain(answer)):
                raise Unreadable("it is empty")
            return plain

        return self._ask(None, _Question("text", words, {}, ""), text)

    def _where(self) -> str:
        return f"Give each a box: {boxes.WORDS[self._section.boxes]}."

    def _sighting(
        self, picture: Picture, question: _Question, vocabulary: Sequence[str] | None
    ) -> Sighting:
        image = self._thumbnail(picture)

        def read(text: str) -> Sighting:
            unknown: Counter[str] = Counter()
            detections = []
            things = answers.things(text)
            way = self._way_of([each.box for each in things if each.box is not None])
            for thing in things:
                label = thing.label if vocabulary is None else labels.match(thing.label, vocabulary)
                if label is None:
                    unknown[thing.label] += 1
                else:
                    detections.append(_detection(thing, label, way, image.size, picture.size))
            return Sighting(detections, dict(unknown))

        return self._ask(image, question, read)

    def _way_of(self, coordinates: Sequence[Sequence[float]]) -> str:
        """How the model gives boxes: as the recipe says, as numbers up to 1 show, or by a probe."""
        if self._section.boxes != "auto" or boxes.is_in_shares(coordinates):
            return self._way if self._section.boxes != "auto" and self._way else "shares"
        with self._lock:
            if self._way is None:
                self._way = self._probed()
        return self._way

    def _probed(self) -> str:
        """The way in which the model places a thing whose place is known."""
        image = self._thumbnail(Picture(boxes.probe()))
        words = f"Where is {boxes.PROBE_LABEL} in the picture? {self._where()}"
        question = _things_question(words, [boxes.PROBE_LABEL])
        for thing in self._ask(image, question, answers.things):
            way = None if thing.box is None else boxes.way_of_probe(thing.box, image.size)
            if way is not None:
                _log.warning(
                    "%s gives boxes as '%s'; the recipe can say so: vision.boxes",
                    self._section.model,
                    way,
                )
                return way
        raise VisionFailed(
            "the vision model gives boxes in a way that is not known; say how with `boxes` of the "
            f"recipe's vision: {', '.join(boxes.WORDS)}",
            fault="unreadable",
        )

    def _thumbnail(self, picture: Picture) -> Image.Image:
        image = picture.to_srgb().copy()
        image.thumbnail((self._section.longest_side, self._section.longest_side))
        return image

    def _ask(self, image: Image.Image | None, question: _Question, read: Callable[[str], T]) -> T:
        """An answer that can be read; unreadable ones are asked for again."""
        for attempt in range(self._section.retries + 1):
            text = self._answer(image, question)
            try:
                return read(text)
            except Unreadable as error:
                if attempt == self._section.retries:
                    raise VisionFailed(
                        f"the vision model's answer cannot be read ({error}): {text[:80]!r}",
                        fault="unreadable",
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    def _answer(self, image: Image.Image | None, question: _Question) -> str:
        """The text of an answer, in the dialect that the server takes."""
        import openai

        dialect, first = self._dialect, None
        while True:
            try:
                text = self._complete(image, question, dialect)
                self._dialect = dialect
                return text
            except openai.APIStatusError as error:
                first = first or error
                following = dialect.after_refusal(error.message)
                if following is None and error.status_code in (400, 422):
                    following = dialect.simpler()
                if following is None or error.status_code in (401, 403, 429):
                    raise _failure(first, self._section) from error
                dialect = following
            except (openai.OpenAIError, ValueError) as error:
                raise _failure(error, self._section) from error

    def _complete(self, image: Image.Image | None, question: _Question, dialect: Dialect) -> str:
        words = question.words
        if question.schema and dialect.form != "json_schema":
            words += f"\nAnswer with JSON and nothing else, like this: {question.example}"
        if not question.schema:
            dialect = Dialect(dialect.length, dialect.has_temperature, dialect.has_seed, "text")
        content: list[Any] = [{"type": "text", "text": words}]
        if image is not None:
            data = base64.b64encode(images.encode(Picture(image))).decode()
            url = f"data:image/png;base64,{data}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        payload: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            **dialect.parameters(question.name, question.schema),
        }
        answer: Any = self._client.chat.completions.create(model=self._section.model, **payload)
        return _text(answer, self._section)


def _text(answer: Any, section: Vision) -> str:
    """The text of a completion.

    Raises:
        VisionFailed: it is none, or a refusal.
    """
    if isinstance(answer, str) or not hasattr(answer, "choices"):
        raise VisionFailed(
            f"{section.base_url} answered with a web page or text, not as an API; is the address "
            "right? It often ends with /v1",
            fault="unreachable",
        )
    if getattr(answer, "error", None):
        raise VisionFailed(
            f"the vision model's server reports: {str(answer.error)[:200]}", fault="unreachable"
        )
    if not answer.choices:
        raise VisionFailed("the vision model's answer is empty", fault="unreadable")
    choice = answer.choices[0]
    refusal = getattr(choice.message, "refusal", None)
    if refusal or choice.finish_reason == "content_filter":
        raise VisionFailed(
            f"the vision model would not answer: {str(refusal or 'filtered')[:200]}",
            fault="refused",
        )
    content = choice.message.content or ""
    if isinstance(content, list):  # parts, as some servers give them
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if choice.finish_reason == "length" and not content.rstrip(" `\n").endswith(("]", "}")):
        raise VisionFailed(
            f"the vision model's answer was cut off at {LONGEST_ANSWER} tokens", fault="unreadable"
        )
    return str(content)


def _detection(
    thing: Thing, label: str, way: str, sent_size: tuple[int, int], size: tuple[int, int]
) -> Detection:
    """A thing in the picture's own pixels.

    Raises:
        Unreadable: it has no box, or one without area.
    """
    if thing.box is None:
        raise Unreadable(f"'{thing.label}' has no box")
    first, second, third, fourth = boxes.shares(thing.box, way, sent_size)
    left, right = (min(max(x, 0.0), 1.0) * size[0] for x in (first, third))
    top, bottom = (min(max(y, 0.0), 1.0) * size[1] for y in (second, fourth))
    if right - left < 1 or bottom - top < 1:
        raise Unreadable(
            f"the box {list(thing.box)} has no area; see `boxes` of the recipe's vision for how "
            "this model counts"
        )
    return Detection(box=(left, top, right, bottom), label=label, confidence=thing.confidence)


def _things_question(words: str, vocabulary: Sequence[str] | None) -> _Question:
    label: dict[str, Any] = {"type": "string"}
    if vocabulary is not None:
        label["enum"] = list(vocabulary)
    thing = _object(
        label=label,
        confidence={"type": "number", "minimum": 0, "maximum": 1},
        box={"type": "array", "items": {"type": "number"}},
    )
    schema = _object(objects={"type": "array", "items": thing})
    example = '{"objects": [{"label": "…", "confidence": 0.9, "box": [0, 0, 1, 1]}]}'
    return _Question("objects", words, schema, example)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TRUTH = _object(true={"type": "boolean"}, score={"type": "number", "minimum": 0, "maximum": 1})


def _failure(error: Exception, section: Vision) -> VisionFailed:
    """An error of the client, in our words. The server's own words may hold anything: cut."""
    import openai

    fault: Fault = "denied"
    attempts = section.retries + 1
    tries = f"after {attempts} attempts: " if attempts > 1 else ""
    if isinstance(error, openai.APITimeoutError):
        fault, what = "timeout", f"{tries}no answer within {section.timeout_s:g} s"
    elif isinstance(error, openai.APIConnectionError):
        fault, what = "unreachable", f"{tries}{section.base_url} cannot be reached"
    elif isinstance(error, openai.RateLimitError):
        fault, what = "busy", f"{tries}it has too many requests"
    elif isinstance(error, openai.APIStatusError) and error.status_code >= 500:
        fault, what = "unreachable", f"{tries}server error {error.status_code}"
    elif isinstance(error, openai.APIStatusError) and error.status_code in (401, 403):
        what = f"it refused the key ({error.status_code})"
    elif isinstance(error, openai.APIStatusError):
        what = f"it refused the request ({error.status_code}): {error.message[:200]}"
    else:
        fault = "unreachable"
        what = f"{section.base_url} gave no answer of the API ({type(error).__name__})"
    return VisionFailed(f"the vision model failed: {what}", fault=fault)

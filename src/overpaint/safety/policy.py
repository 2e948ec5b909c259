"""The safety policy: who checks what, and the one comparison that decides.

A severity that is at or above its category's threshold flags the content: `severity >= threshold`,
the same for every category, stage and interface. With thresholds from 0 to 7 and severities 0, 2,
4 and 6 (some checkers: 0 to 7), a threshold of 0 flags all that is checked and 7 next to nothing.

In mode 'block' flagged content ends the edit; in mode 'annotate' it is noted in the result; in
mode 'off' nothing is checked. A checker that fails ends the edit in both of the other modes:
nothing passes unchecked. Checked content is neither logged nor quoted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from PIL import Image

from overpaint.core.errors import ContentBlocked, SafetyUnavailable
from overpaint.core.imaging.images import Picture
from overpaint.core.safety import CATEGORIES, MAX_SEVERITY, Category, Stage, Verdict
from overpaint.core.types import PARTS, EditRequest

Mode = Literal["off", "annotate", "block"]
Severities = Mapping[Category, int]
Stop = Callable[[], None] | None
"""Called before each check; what it raises ends them."""

DEFAULT_THRESHOLD = 2
DEFAULT_THRESHOLDS: Severities = dict.fromkeys(CATEGORIES, DEFAULT_THRESHOLD)

_GREY = (128, 128, 128)

Content = TypeVar("Content", contravariant=True)

_log = logging.getLogger(__name__)


class Checker(Protocol[Content]):
    """Judges texts or pictures. May be called from several threads."""

    @property
    def name(self) -> str:
        """As logs and errors call it."""

    def check(self, content: Content, /) -> Severities:
        """Severity, 0 to 7, of each category that this checker knows; at least of one.

        A picture is the edit's own: a checker copies it before it changes anything in it.

        Any exception means that it could not be checked.
        """


TextChecker = Checker[str]
ImageChecker = Checker[Image.Image]
"""Judges 'RGB' pictures in sRGB, of any size."""


def reaches(severity: int, threshold: int) -> bool:
    """Whether content of this severity is flagged."""
    return severity >= threshold


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is checked, and what happens then.

    Attributes:
        mode: 'off', 'annotate' or 'block'.
        thresholds: 0 to 7 by category.
        text_checkers: for the prompt and the negative prompt.
        image_checkers: for all pictures, inputs and results.
    """

    mode: Mode
    thresholds: Severities = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    text_checkers: Sequence[TextChecker] = ()
    image_checkers: Sequence[ImageChecker] = ()

    @classmethod
    def off(cls) -> Policy:
        """Nothing is checked."""
        return cls(mode="off")

    def with_own_of(self, checkers: Sequence[ImageChecker]) -> Policy:
        """The policy with a checkpoint's own checkers; where it checks nothing, they annotate."""
        if not checkers:
            return self
        mode: Mode = "annotate" if self.mode == "off" else self.mode
        return replace(self, mode=mode, image_checkers=(*self.image_checkers, *checkers))

    @property
    def checks_images(self) -> bool:
        """Whether pictures are checked."""
        return self.mode != "off" and bool(self.image_checkers)

    @property
    def checks(self) -> bool:
        """Whether anything is checked."""
        return self.mode != "off" and bool(self.text_checkers or self.image_checkers)

    def check_request(self, request: EditRequest, *, stop: Stop = None) -> tuple[Verdict, ...]:
        """Judge all that a caller gives: first the words, which cost least.

        Args:
            request: what is judged.
            stop: called before each check; what it raises ends them.

        Raises:
            ContentBlocked: the mode is 'block' and something is flagged.
            SafetyUnavailable: something could not be checked.
        """
        return (
            *(
                verdict
                for part in PARTS
                if part.kind == "text"
                for verdict in self._check_text(getattr(request, part.name) or "", part.name, stop)
            ),
            *self._check_pictures(_input_pictures(request), "input_image", stop),
        )

    def check_rewritten(self, prompt: str, *, stop: Stop = None) -> tuple[Verdict, ...]:
        """Judge a prompt that was made of a caller's; its verdict has index 1.

        Args:
            prompt: what is judged.
            stop: as for `check_request`.

        Raises:
            ContentBlocked, SafetyUnavailable: as for `check_request`.
        """
        return self._check_text(prompt, "prompt", stop, index=1)

    def check_outputs(
        self, pictures: Sequence[Picture], *, stop: Stop = None
    ) -> tuple[Verdict, ...]:
        """Judge pictures that are about to leave.

        Args:
            pictures: what is judged.
            stop: as for `check_request`.

        Raises:
            ContentBlocked, SafetyUnavailable: as for `check_request`.
        """
        views = [_views(picture) for picture in pictures]
        return self._check_pictures(views, "output_image", stop)

    def _check_text(
        self, text: str, stage: Stage, stop: Stop, index: int = 0
    ) -> tuple[Verdict, ...]:
        if self.mode == "off" or not self.text_checkers or not text.strip():
            return ()
        return (self._judged(self.text_checkers, [text], stage, stop, index),)

    def _check_pictures(
        self, pictures: Sequence[Sequence[Image.Image]], stage: Stage, stop: Stop
    ) -> tuple[Verdict, ...]:
        if not self.checks_images:
            return ()
        return tuple(
            self._judged(self.image_checkers, views, stage, stop, index)
            for index, views in enumerate(pictures)
        )

    def _judged(
        self,
        checkers: Sequence[Checker[Content]],
        contents: Sequence[Content],
        stage: Stage,
        stop: Stop,
        index: int = 0,
    ) -> Verdict:
        worst: dict[Category, int] = {}
        for checker in checkers:
            for content in contents:
                if stop is not None:
                    stop()
                for category, severity in _severities(checker, content).items():
                    worst[category] = max(severity, worst.get(category, 0))
        flagged = [
            category
            for category in sorted(worst, key=lambda each: (-worst[each], CATEGORIES.index(each)))
            if reaches(worst[category], self.thresholds[category])
        ]
        if flagged and self.mode == "block":
            raise ContentBlocked(
                f"the safety policy refuses the {stage.replace('_', ' ')} ({flagged[0]})",
                stage=stage,
                category=flagged[0],
            )
        return Verdict(stage, index, worst, tuple(flagged))


def _input_pictures(request: EditRequest) -> list[list[Image.Image]]:
    """The pictures that a caller gives, each in every way that it can be seen."""
    pictures: list[Picture | Image.Image] = []
    for part in PARTS:
        value = getattr(request, part.name)
        if part.is_screened and part.kind != "text" and value is not None:
            pictures += value if part.kind == "pictures" else [value]
    return [_views(each) if isinstance(each, Picture) else [each] for each in pictures]


def _views(picture: Picture) -> list[Image.Image]:
    """The colours, and where there is transparency what it leaves to be seen on grey.

    A picture can be drawn in the colours below full transparency, or in the transparency alone.
    """
    colours = picture.to_srgb()
    if picture.alpha is None or picture.alpha.getextrema()[0] == 255:
        return [colours]
    return [colours, Image.composite(colours, Image.new("RGB", colours.size, _GREY), picture.alpha)]


def _severities(checker: Checker[Content], content: Content) -> Severities:
    """The severities that a checker gives; its own errors, which may quote the content, end here.

    Raises:
        SafetyUnavailable: it fails, or what it says is no severity.
    """
    failure = "gives no severity from 0 to 7 of a known category"
    try:
        severities = dict(checker.check(content))
    except SafetyUnavailable:
        raise
    except Exception as error:
        failure, severities = f"failed ({type(error).__name__})", {}
    if not severities or not all(map(_is_severity, severities.items())):
        _log.error("a safety checker failed", extra={"checker": checker.name, "reason": failure})
        raise SafetyUnavailable(
            f"the safety checker '{checker.name}' {failure}, so the content was refused; try "
            "again later"
        )
    return severities


def _is_severity(pair: tuple[object, object]) -> bool:
    category, severity = pair
    return category in CATEGORIES and type(severity) is int and 0 <= severity <= MAX_SEVERITY

"""The chat model that rewrites prompts, as the settings name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from overpaint.apps.wiring.models import families
from overpaint.apps.wiring.models.catalogue import find_model
from overpaint.core.errors import InvalidSettings, RewriterUnavailable

if TYPE_CHECKING:
    from overpaint.apps.settings import RewriterSettings, Settings
    from overpaint.engine.rewriting import Rewriter


def rewriter(settings: Settings) -> Rewriter | None:
    """What rewrites prompts; None = they stay as they are.

    Raises:
        InvalidSettings: the chat model's client is not installed.
    """
    if settings.rewriter.base_url is None:
        return None
    from overpaint.engine.rewriting import Rewriter

    def style_of(model: str) -> str | None:
        return families.find(find_model(model, settings).family).prompt_style

    return Rewriter(settings.rewriter.model, _writer(settings.rewriter), style_of)


def _writer(table: RewriterSettings) -> Callable[[str], str]:
    # Late: nobody else who edits a picture needs a client of chat models.
    from overpaint.datasets.recipes.sections import Vision
    from overpaint.datasets.vision.client import VisionFailed, VisionModel

    assert table.base_url is not None
    section = Vision(
        base_url=table.base_url, model=table.model, timeout_s=table.timeout_s, retries=1
    )
    key = None if table.key is None else table.key.get_secret_value()
    try:
        chat = VisionModel(section, key)
    except ImportError as error:
        raise InvalidSettings(
            "rewriting needs OpenAI's client: pip install 'overpaint[judge]'", field="rewriter"
        ) from error

    def write(words: str) -> str:
        try:
            return chat.write(words)
        except VisionFailed as error:
            raise RewriterUnavailable(
                f"the chat model '{table.model}' that rewrites prompts gives none ({error.fault}); "
                "try again later, or unset rewriter.base_url"
            ) from error

    return write

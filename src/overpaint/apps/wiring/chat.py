"""Models behind OpenAI's chat completions, as the settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overpaint.core.errors import InvalidSettings

if TYPE_CHECKING:
    from overpaint.apps.settings.base import ChatSettings
    from overpaint.datasets.vision.client import VisionModel

RETRIES = 1
"""Of an answer that did not come, or that cannot be read, while somebody waits for an edit."""


def client(table: ChatSettings, field: str) -> VisionModel:
    """A client of the model.

    Args:
        table: where the model is; its `base_url` is set.
        field: the setting that asks for it, for errors.

    Raises:
        InvalidSettings: OpenAI's client is not installed.
    """
    # Late: nobody else who edits a picture needs a client of chat models.
    from overpaint.datasets.recipes.sections import Vision
    from overpaint.datasets.vision.client import VisionModel

    assert table.base_url is not None
    section = Vision(
        base_url=table.base_url, model=table.model, timeout_s=table.timeout_s, retries=RETRIES
    )
    key = None if table.key is None else table.key.get_secret_value()
    try:
        return VisionModel(section, key)
    except ImportError as error:
        raise InvalidSettings(
            f"{field} needs OpenAI's client: pip install 'overpaint[judge]'", field=field
        ) from error

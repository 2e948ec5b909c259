"""The demo's page: one HTML file that holds its pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import jinja2
from PIL import Image

from overpaint.apps.wiring.demo.edits import DemoSection, sections
from overpaint.core.files import atomic_write
from overpaint.core.version import __version__


def write(page: Path, on_section: Callable[[DemoSection], None]) -> None:
    """Make the demo's edits and write the page that shows them.

    Args:
        page: the HTML file to write; it needs no other file.
        on_section: called after each section's edits.

    Raises:
        OverpaintError: a twin is missing, or the page cannot be written.
    """
    demo_sections = []
    for section in sections():
        on_section(section)
        demo_sections.append(section)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("overpaint.apps.wiring.demo", "."), autoescape=True
    )
    environment.filters["uri"] = _data_uri
    template = environment.get_template("page.html.jinja")
    text = template.render(
        photos=[each for each in demo_sections if not each.is_twin],
        twins=[each for each in demo_sections if each.is_twin],
        version=__version__,
    )
    atomic_write(page, text.encode())


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=92) if image.mode == "RGB" else image.save(buffer, "PNG")
    kind = "webp" if image.mode == "RGB" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

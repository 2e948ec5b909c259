"""Draw the pictures of the README and of docs/gallery.md from the demo's edits.

Run from the repository's root: `python -m examples.gallery`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from overpaint.apps.wiring.demo.edits import DemoSection, sections

FOLDER = Path(__file__).parents[1] / "docs" / "images"
HEIGHT = 240
GAP = 6


def main() -> None:
    """Write one JPEG for each section, and one for the README that joins the first three."""
    strips = {}
    for section in sections():
        strips[section.title] = strip(section)
        strips[section.title].save(FOLDER / f"gallery-{slug(section.title)}.jpg", quality=88)
    stacked(*list(strips.values())[:3]).save(FOLDER / "readme.jpg", quality=88)


def strip(section: DemoSection) -> Image.Image:
    """The pictures of a section in rows of one height, at most eight in a row."""
    shown = [fitted(picture.convert("RGB")) for _, picture in section.pictures]
    rows = [beside(shown[start : start + 8]) for start in range(0, len(shown), 8)]
    return rows[0] if len(rows) == 1 else stacked(*rows)


def fitted(picture: Image.Image) -> Image.Image:
    """The picture at the strips' height."""
    enlarged = picture.height < HEIGHT
    filter_ = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), filter_)


def beside(pictures: list[Image.Image]) -> Image.Image:
    """The pictures from left to right."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, HEIGHT), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + GAP
    return sheet


def stacked(*rows: Image.Image) -> Image.Image:
    """The rows from top to bottom, at the width of the first."""
    width = rows[0].width
    rows = tuple(row.resize((width, round(row.height * width / row.width))) for row in rows)
    sheet = Image.new(
        "RGB", (width, sum(row.height for row in rows) + GAP * (len(rows) - 1)), "white"
    )
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    return sheet


def slug(title: str) -> str:
    """The title as part of a file's name."""
    return title.partition(":")[0].lower().replace(" ", "-").replace(",", "")


if __name__ == "__main__":
    main()

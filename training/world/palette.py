"""Names of the world: colours, shapes, backgrounds, places, and the pairs held out of training.

Colours are sRGB triples in 0..255. Things are saturated, backgrounds are muted, so that chroma
alone separates them (the judge relies on it).
"""

from __future__ import annotations

from typing import Final

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (245, 220, 40),
    "green": (40, 160, 60),
    "cyan": (40, 195, 215),
    "blue": (40, 75, 215),
    "purple": (125, 45, 175),
    "pink": (245, 120, 190),
}

SHAPES: Final[tuple[str, ...]] = ("circle", "square", "triangle", "star", "ring", "cross")

BACKGROUND_COLOURS: Final[dict[str, Rgb]] = {
    "grey": (150, 150, 150),
    "white": (225, 225, 225),
    "sand": (205, 190, 165),
    "mint": (185, 215, 195),
    "lavender": (190, 185, 215),
    "slate": (92, 102, 115),
}

BACKGROUND_KINDS: Final[tuple[str, ...]] = ("plain", "gradient", "striped", "checked")

SIZES: Final[tuple[str, ...]] = ("small", "large")

PLACES: Final[dict[str, tuple[float, float]]] = {
    "top left": (0.27, 0.25),
    "top": (0.5, 0.25),
    "top right": (0.73, 0.25),
    "left": (0.27, 0.48),
    "middle": (0.5, 0.48),
    "right": (0.73, 0.48),
    "bottom left": (0.27, 0.7),
    "bottom": (0.5, 0.7),
    "bottom right": (0.73, 0.7),
}
"""Names of the nine places, with the centre (x, y) in units of the side."""

HELD_OUT: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("red", "star"),
        ("blue", "circle"),
        ("green", "triangle"),
        ("yellow", "square"),
        ("purple", "ring"),
        ("orange", "cross"),
    }
)
"""(colour, shape) pairs that training neither draws nor names: one for each shape."""

SEEN: Final[tuple[tuple[str, str], ...]] = tuple(
    (colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in HELD_OUT
)
"""All (colour, shape) pairs that training may show."""

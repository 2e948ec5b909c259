"""Overpaint: text-guided image inpainting and editing, self-hosted."""

__version__ = "0.1.0"

"""Overpaint's version, for the package, its files and its answers; pyproject.toml reads it here."""

__version__ = "0.1.0"

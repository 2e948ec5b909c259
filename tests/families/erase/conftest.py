"""Colour profiles, as the tests of pictures have them."""

from tests.core.conftest import linear_grey, p3

__all__ = ["linear_grey", "p3"]

"""Exemplar-based filling: erasing things from real photos with no weights and no words."""

from .filling import Filling, fill
from .shadow import grow_over_shadow

__all__ = ["Filling", "fill", "grow_over_shadow"]

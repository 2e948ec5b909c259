"""Arrays that the modules of this folder hand to each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RgbPixels = NDArray[np.uint8]
"""(H, W, 3), sRGB or the picture's own space."""

FloatPlane = NDArray[np.float32]
"""(H, W) or (H, W, channels)."""

RegionMask = NDArray[np.bool_]
"""(H, W), True = inside."""

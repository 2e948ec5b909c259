"""The arrays that the filler's parts hand to each other."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB
BoolMask = npt.NDArray[np.bool_]  # (H, W)
Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.int32]

CHANNELS = 4  # red, green, blue, and how rough the texture is

"""OpenCV's SHIFTMAP in a process of its own, because it lives in opencv-contrib.

Run by `benchmarks/erase.py --contrib-python`; needs only that interpreter's cv2 and numpy. Each
line of standard input names an .npz with `pixels` and `hole`; the answer is a line with the
seconds it took by the clock and of the processor, and the filled picture in the .npy of that name.
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np

for line in sys.stdin:
    path = Path(line.strip())
    case = np.load(path)
    lab = cv2.cvtColor(case["pixels"], cv2.COLOR_RGB2Lab)
    filled = np.zeros_like(lab)
    known = (~case["hole"]).astype(np.uint8) * 255
    begin, busy = time.perf_counter(), time.process_time()
    cv2.xphoto.inpaint(lab, known, filled, cv2.xphoto.INPAINT_SHIFTMAP)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    filled = np.where(
        case["hole"][..., None], cv2.cvtColor(filled, cv2.COLOR_Lab2RGB), case["pixels"]
    )
    np.save(path.with_suffix(".npy"), filled)
    print(seconds, busy, flush=True)

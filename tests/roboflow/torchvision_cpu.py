"""Lets a CUDA build of torchvision be imported beside a CPU-only torch.

`inference` pulls in torchvision, of which package registries hold the CUDA build; without its C++
operators its import ends in `operator torchvision::nms does not exist`. This declares the two
that it registers fakes for, just before torchvision is imported. Loaded by a .pth file.
"""

import importlib.abc
import sys


class _Finder(importlib.abc.MetaPathFinder):
    done = False
    declared = None  # the operators live as long as this

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and not _Finder.done:
            _Finder.done = True
            _declare()


def _declare():
    import torch
    from torch import library

    if torch.version.cuda is not None:
        return
    _Finder.declared = library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _Finder.declared.define(
            f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )


sys.meta_path.insert(0, _Finder())

"""Which of torch's kernels computes a denoiser's attention on CUDA.

Measured elsewhere, forward at head size 128 on an H100 (FlashAttention-3, Shah et al. 2024,
arXiv:2407.08608, figure 5): FlashAttention 2 gives 370 TFLOP/s, cuDNN 600. torch prefers cuDNN by
itself only where it finds a new enough one when it runs; an older one in the library path is used
without a word, so the choice is logged.

torch keeps the order for the whole process, so it is changed only where it differs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn import attention

from overpaint.core.models import AttentionName

CUDNN_SINCE = 91500
"""cuDNN's attention is preferred by versions after 9.15.0, as torch does it."""

SMALL_HEAD = 64
"""Head size up to which cuDNN's attention was found slower than FlashAttention 2."""

LARGE_HEAD = 128
"""Head size above which cuDNN has no kernel on every card."""

NEW_CARDS = (9, 10)
"""Major compute capabilities on which cuDNN is faster: Hopper and Blackwell."""

_KERNELS = {
    "cudnn": attention.SDPBackend.CUDNN_ATTENTION,
    "flash": attention.SDPBackend.FLASH_ATTENTION,
    "efficient": attention.SDPBackend.EFFICIENT_ATTENTION,
    "math": attention.SDPBackend.MATH,
}

_log = logging.getLogger(__name__)
_changing = threading.RLock()


def order(
    capability: tuple[int, int],
    cudnn: int,
    head_size: int,
    *,
    recurring: bool,
    first: AttentionName = "auto",
) -> tuple[str, ...]:
    """Kernels in the order in which they are tried.

    Args:
        capability: of the card.
        cudnn: version of cuDNN, as torch reports it (91500 = 9.15.0); 0 = none.
        head_size: numbers of a head.
        recurring: whether more steps will have these shapes. cuDNN plans for each new one, which
            takes longer than it saves where that is not so.
        first: the one to try first, others only where it cannot; 'auto' = by the rest.
    """
    if first != "auto":
        return (first, *(each for each in ("flash", "efficient", "math") if each != first))
    fit = capability[0] in NEW_CARDS and cudnn > CUDNN_SINCE and head_size <= LARGE_HEAD
    if fit and head_size > SMALL_HEAD and recurring:
        return ("cudnn", "flash", "efficient", "math")
    return ("flash", "efficient", "math")


@contextmanager
def ordered(
    model: Any, device: torch.device, *, recurring: bool, first: AttentionName
) -> Iterator[None]:
    """Let a model's attention be computed by the kernels of `order` within, on CUDA.

    Args:
        model: the denoiser.
        device: where it is.
        recurring, first: as `order` takes them.
    """
    size = head_size(model) if device.type == "cuda" else None
    if size is None:
        yield
        return
    kernels = order(
        torch.cuda.get_device_capability(device),
        torch.backends.cudnn.version() or 0,  # type: ignore[no-untyped-call]
        size,
        recurring=recurring,
        first=first,
    )
    with in_order(kernels):
        _say(device, size)
        yield


@contextmanager
def in_order(kernels: tuple[str, ...]) -> Iterator[None]:
    """Let torch try these kernels and no others, in this order, within."""
    backends = [_KERNELS[name] for name in kernels]
    if attention._cur_sdpa_kernel_backends(with_priority=True) == backends:
        yield
        return
    with _changing, attention.sdpa_kernel(backends, set_priority=True):
        yield


def head_size(model: Any) -> int | None:
    """Numbers of a head of the first attention in a model of diffusers; None = it has none."""
    for module in model.modules():
        heads, inner = getattr(module, "heads", None), getattr(module, "inner_dim", None)
        if isinstance(heads, int) and isinstance(inner, int):
            return inner // heads
    return None


@cache
def _say(device: torch.device, size: int) -> None:
    """Log once what torch chooses."""
    numbers = torch.empty(1, 1, 128, size, dtype=torch.bfloat16, device=device)
    backend = torch._fused_sdp_choice(numbers, numbers, numbers)
    _log.info(
        "attention on %s at head size %d: %s, cuDNN %s",
        device,
        size,
        attention.SDPBackend(backend).name.lower(),
        torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    )

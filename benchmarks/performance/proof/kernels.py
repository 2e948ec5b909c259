"""The card by itself: versions, bandwidth, attention, products."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.performance.proof.bench import Bench
from benchmarks.performance.proof.journal import Row

CHOICES = {0: "math", 1: "flash", 2: "efficient", 3: "cuDNN", -1: "none"}
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
SHAPES = (
    (1, 24, 4608, 4608, 128), (1, 24, 8704, 8704, 128), (1, 24, 1024, 4608, 128),
    (1, 24, 1536, 8704, 128), (1, 24, 4608, 8704, 128), (2, 5, 4096, 4096, 64),
    (16, 10, 1024, 1024, 64),
)  # fmt: skip
"""Batch, heads, queries, keys, features of a head: FLUX dense and sparse, Stable Diffusion 2."""

ROWS = (1024, 1536, 4608, 8704)
MATRICES = ((3072, 3072), (3072, 9216), (3072, 12288), (3072, 21504), (12288, 3072), (15360, 3072))


def environment(bench: Bench) -> None:
    """Versions, the kernel that torch chooses, and what the card can do at most."""
    bench.journal.add("versions", note=_versions(bench.device))
    for features in (64, 128, 512):
        bench.journal.attempt(
            f"attention chosen, {features} features", partial(_chosen, bench, features)
        )
    bench.journal.attempt("copy", partial(_copy, bench))
    bench.journal.attempt("product 8192x8192x8192", partial(_product, bench))
    bench.journal.attempt("launch", partial(_launch, bench))


def attention(bench: Bench) -> None:
    """Every kernel at the models' shapes, and what a shape costs that it has not seen."""
    for batch, heads, queries, keys, features in SHAPES:
        scale = 16 if bench.tiny else 1
        lengths = (queries // scale, keys // scale)
        query, key = (_random(bench, batch, heads, each, features) for each in lengths)
        for name, kernel in KERNELS.items():
            row = f"{batch}x{heads}x{lengths[0]}x{lengths[1]}x{features}, {name}"
            bench.journal.attempt(row, partial(_attended, bench, kernel, query, key))


def products(bench: Bench) -> None:
    """Matrix products of FLUX's layers in bfloat16 and in float8."""
    for rows in ROWS:
        for inner, outer in MATRICES:
            scale = 64 if bench.tiny else 1
            sizes = (rows // scale, inner // scale, outer // scale)
            bench.journal.attempt("x".join(map(str, sizes)), partial(_multiplied, bench, *sizes))


def _versions(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", ""),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory GB": round(properties.total_memory / 1e9, 1),
        }
    return found


def _chosen(bench: Bench, features: int) -> Row:
    query = _random(bench, 1, 4, 256, features)
    return {"note": CHOICES[int(torch._fused_sdp_choice(query, query, query))]}


def _copy(bench: Bench) -> Row:
    source = _random(bench, 2**20 if bench.tiny else 2**29)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = bench.clock.median(lambda: target.copy_(source))
    moved = 2 * source.numel() * source.element_size()
    return {"device ms": round(1e3 * seconds, 3), "note": f"{moved / seconds / 1e9:.0f} GB/s"}


def _product(bench: Bench) -> Row:
    side = 256 if bench.tiny else 8192
    left = _random(bench, side, side)
    return _rate(bench, lambda: left @ left, 2 * side**3)


def _launch(bench: Bench) -> Row:
    one, count = _random(bench, 1), 1000

    def work() -> None:
        for _ in range(count):
            one.add_(1)

    return {"note": f"{bench.clock.median(work) / count * 1e6:.1f} us"}


def _attended(bench: Bench, kernel: SDPBackend, query: torch.Tensor, key: torch.Tensor) -> Row:
    with sdpa_kernel([kernel]):

        def work() -> torch.Tensor:
            return functional.scaled_dot_product_attention(query, key, key)

        first = bench.clock.seconds(work)
        batch, heads, queries, features = query.shape
        row = _rate(bench, work, 4 * batch * heads * queries * key.shape[2] * features)
    return {**row, "first s": round(first, 3)}


def _multiplied(bench: Bench, rows: int, inner: int, outer: int) -> Row:
    left, right = _random(bench, rows, inner), _random(bench, outer, inner)
    work = 2 * rows * inner * outer
    row = _rate(bench, lambda: left @ right.T, work)
    notes = {"bfloat16": row["note"]}
    for name, fast, bias in (("float8", True, False), ("with bias", True, True), ("slow", 0, 0)):
        try:
            notes[name] = _rate(bench, _float8(left, right, bool(fast), bool(bias)), work)["note"]
        except Exception as error:
            notes[name] = f"not here ({type(error).__name__})"
    return {**row, "note": notes}


def _float8(
    left: torch.Tensor, right: torch.Tensor, fast: bool, bias: bool
) -> Callable[[], torch.Tensor]:
    """Row-wise scaled product of numbers in float8."""
    one, other = (each.clamp(-1, 1).to(torch.float8_e4m3fn) for each in (left, right))
    device = left.device
    scales = (
        torch.ones(len(left), 1, device=device),
        torch.ones(1, len(right), device=device),
    )
    added = torch.zeros(len(right), dtype=torch.bfloat16, device=device) if bias else None
    return lambda: torch._scaled_mm(
        one,
        other.T,
        scale_a=scales[0],
        scale_b=scales[1],
        bias=added,
        out_dtype=torch.bfloat16,
        use_fast_accum=fast,
    )


def _rate(bench: Bench, work: Callable[[], object], operations: int) -> Row:
    bench.journal.check()
    work()
    seconds = bench.clock.median(work)
    return {
        "device ms": round(1e3 * seconds, 3),
        "note": f"{operations / seconds / 1e12:.4g} TFLOP/s",
    }


def _random(bench: Bench, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.bfloat16, device=bench.device)

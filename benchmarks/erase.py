"""How well and how fast `erase` fills holes in real photos, beside OpenCV's inpainting.

    python benchmarks/erase.py --contrib-python PYTHON --out docs/erase-figures

writes `OUT.json`, `OUT.md` and, with `--sheet PNG` and `--drawn-sheet PNG`, contact sheets of the
square photos and of the drawn holes. `--contrib-python` names an
interpreter whose cv2 has xphoto (opencv-contrib-python-headless); without it SHIFTMAP is left out.
Every case is filled by each method in turn, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from erase_cases import Case, Mask, Pixels, cases, read_photo, score
from erase_drawn import DRAWINGS, strange_share
from overpaint.families.erase.exemplar import fill
from overpaint.families.erase.exemplar.seams import solve

OURS, TELEA, NS, SHIFTMAP, BLENDED = "ours", "TELEA", "NS", "SHIFTMAP", "SHIFTMAP + Poisson"
SHEET = (8, 17, 10, 35, 4, 29, 14, 39, 45, 12)  # cases shown on the contact sheet
DRAWN_SHEET = ("helmet", "shuttle", "flag", "cup", "nose", "cell", "photographer", "face")
CONTEXT = 1.0  # of the hole's longer side, on each side of it, for the 24 MP photo

# From picture and hole to the filled picture, the seconds it took, and the processor's seconds.
Method = Callable[[Pixels, Mask], tuple[Pixels, float, float]]


def main() -> None:
    """Runs what was asked for and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contrib-python", help="interpreter with opencv-contrib, for SHIFTMAP")
    parser.add_argument("--out", type=Path, default=Path("erase-figures"), help="without suffix")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write, .png")
    parser.add_argument("--drawn-sheet", type=Path, help="the same of drawn holes, .png")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument(
        "--every", type=int, nargs="+", default=[1], help="take each n-th case only, per side"
    )
    parser.add_argument("--large-child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.large_child:
        print(json.dumps(_fill_large()))
        return
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, OpenCV {cv2.__version__}"
    }
    methods = _methods(options.contrib_python)
    steps = [options.every[min(i, len(options.every) - 1)] for i in range(len(options.sides))]
    results["photos"] = {
        str(side): _run(methods, side, step)
        for side, step in zip(options.sides, steps, strict=True)
    }
    results["drawn"] = _drawn(options.drawn_sheet)
    results["textures"] = _textures()
    results["large"] = json.loads(
        subprocess.run(
            [sys.executable, __file__, "--large-child"], check=True, capture_output=True, text=True
        ).stdout
    )
    if options.sheet:
        _contact_sheet(methods, options.sheet)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    tables = _tables(results)
    options.out.with_suffix(".md").write_text(tables)
    print(tables)


def _methods(contrib_python: str | None) -> dict[str, Method]:
    methods: dict[str, Method] = {
        TELEA: _timed(lambda p, h: cv2.inpaint(p, h.astype(np.uint8), 3, cv2.INPAINT_TELEA)),
        NS: _timed(lambda p, h: cv2.inpaint(p, h.astype(np.uint8), 3, cv2.INPAINT_NS)),
    }
    if contrib_python:
        shiftmap = _Shiftmap(contrib_python)
        methods[SHIFTMAP] = shiftmap
        methods[BLENDED] = lambda pixels, hole: _poisson(pixels, hole, shiftmap.last)
    else:
        print("No --contrib-python: SHIFTMAP is left out.", file=sys.stderr)
    methods[OURS] = _timed(lambda pixels, hole: fill(pixels, hole))
    return methods


def _timed(function: Callable[[Pixels, Mask], Pixels]) -> Method:
    def run(pixels: Pixels, hole: Mask) -> tuple[Pixels, float, float]:
        begin, busy = time.perf_counter(), time.process_time()
        filled = function(pixels, hole)
        return filled, time.perf_counter() - begin, time.process_time() - busy

    return run


class _Shiftmap:
    """SHIFTMAP in its own interpreter; `last` keeps its latest answer for the blended variant."""

    def __init__(self, python: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._worker = subprocess.Popen(
            [python, str(Path(__file__).with_name("erase_shiftmap.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.last: tuple[Pixels, float, float] = (np.zeros((0, 0, 3), np.uint8), 0.0, 0.0)

    def __call__(self, pixels: Pixels, hole: Mask) -> tuple[Pixels, float, float]:
        path = Path(self._folder.name) / "case.npz"
        np.savez(path, pixels=pixels, hole=hole)
        if self._worker.stdin is None or self._worker.stdout is None:
            raise RuntimeError("SHIFTMAP's interpreter did not start.")
        self._worker.stdin.write(f"{path}\n")
        self._worker.stdin.flush()
        seconds, busy = (float(word) for word in self._worker.stdout.readline().split())
        self.last = np.load(path.with_suffix(".npy")), seconds, busy
        return self.last


def _poisson(
    pixels: Pixels, hole: Mask, patch: tuple[Pixels, float, float]
) -> tuple[Pixels, float, float]:
    """The filling's own steps inside the hole, none across its rim (Pérez et al. 2003).

    Not by OpenCV's seamlessClone: it shrinks the mask and would let the truth show at the rim.
    """
    begin, busy = time.perf_counter(), time.process_time()
    values = patch[0].astype(np.float32)
    right, down = np.zeros_like(values), np.zeros_like(values)
    right[:, :-1] = np.diff(values, axis=1) * (hole[:, :-1] & hole[:, 1:])[..., None]
    down[:-1] = np.diff(values, axis=0) * (hole[:-1] & hole[1:])[..., None]
    solve(values, right, down, hole, hold=0.0, sweeps=400, speed=1.9)
    filled = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    return filled, patch[1] + seconds, patch[2] + busy


def _run(methods: dict[str, Method], side: int, every: int) -> dict[str, dict[str, float]]:
    """Mean PSNR, SSIM and sharpness and median times of each method over the cases."""
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    chosen = list(cases(side))[::every]
    for method in methods.values():
        method(chosen[0].truth, chosen[0].hole)
    for number, case in enumerate(chosen):
        for name, method in methods.items():
            filled, seconds, busy = method(case.truth, case.hole)
            if not np.array_equal(filled[~case.hole], case.truth[~case.hole]):
                raise AssertionError(f"{name} touched pixels outside the hole")
            found = score(case.truth, filled, case.hole)
            rows[name].append((found.psnr, found.ssim, found.sharpness, seconds, busy))
        print(f"\r{side}: {number + 1}/{len(chosen)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {name: _summary(np.array(values)) for name, values in rows.items()}


def _summary(values: np.ndarray) -> dict[str, float]:
    psnr, ssim, sharpness = values.mean(0)[:3]
    seconds, busy = np.median(values[:, 3:], 0)
    return {
        "psnr": round(float(psnr), 2),
        "ssim": round(float(ssim), 3),
        "sharpness": round(float(sharpness), 2),
        "cases": len(values),
        "seconds": round(float(seconds), 3),
        "processor_seconds": round(float(busy), 3),
    }


def _drawn(sheet: Path | None) -> dict[str, dict[str, float]]:
    """The strange share of each drawn hole's filling, in a window as the command takes it."""
    shares, strips = {}, []
    for drawing in DRAWINGS:
        photo = read_photo(drawing.photo)
        hole = drawing.hole(photo.shape)
        window = _window(hole)
        pixels, hole = np.ascontiguousarray(photo[window]), hole[window]
        panels = {
            "photo": pixels,
            TELEA: cv2.inpaint(pixels, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA),
            OURS: fill(pixels, hole),
        }
        shares[f"{drawing.photo}: {drawing.thing}"] = {
            name: round(strange_share(panel, hole), 2) for name, panel in panels.items()
        }
        if drawing.thing in DRAWN_SHEET:
            strips.append(_framed([_marked(pixels, hole), panels[TELEA], panels[OURS]]))
    if sheet:
        _write_sheet(sheet, strips)
    return shares


def textures(side: int = 160) -> Iterator[tuple[str, Pixels]]:
    """Drawn textures that a filler should continue exactly."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    yield "stripes", _tint(x // 9 % 2 * 200 + 20)
    yield "diagonal stripes", _tint((x + y) // 11 % 2 * 200 + 20)
    yield "waves", _tint(128 + 100 * np.sin((x * 0.8 + y * 0.45) / 5))
    yield "checkers", _tint((x // 10 + y // 10) % 2 * 180 + 30)
    yield "linear gradient", _tint(40 + x * 0.8 + y * 0.4)
    yield "radial gradient", _tint(255 - np.hypot(x - 40, y - 60) * 1.2)


def _tint(grey: np.ndarray) -> Pixels:
    colours = np.dstack([grey, grey * 0.8 + 20, 255 - grey])
    return np.asarray(np.clip(np.rint(colours), 0, 255), np.uint8)


def _textures() -> dict[str, dict[str, float]]:
    """Mean absolute error in a round hole in the middle."""
    errors = {}
    for name, truth in textures():
        y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
        hole = np.hypot(x - 80, y - 80) < 27
        telea = cv2.inpaint(truth, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        errors[name] = {
            method: round(float(np.abs(filled[hole].astype(float) - truth[hole]).mean()), 2)
            for method, filled in ((TELEA, telea), (OURS, fill(truth, hole)))
        }
    return errors


def _fill_large() -> dict[str, float]:
    """A 24 MP photo with a 300x300 hole, filled in a window around it; in its own process."""
    photo = read_photo("motorcycle")
    tile = np.concatenate([photo, photo[:, ::-1]], 1)
    tile = np.concatenate([tile, tile[::-1]], 0)
    repeats = (-(-4000 // tile.shape[0]), -(-6000 // tile.shape[1]), 1)
    picture = np.tile(tile, repeats)[:4000, :6000].copy()
    hole = np.zeros(picture.shape[:2], bool)
    hole[1850:2150, 2850:3150] = True
    seconds, busy = [], []
    for _ in range(4):
        begin, busy_begin = time.perf_counter(), time.process_time()
        window = _window(hole)
        result = picture.copy()
        result[window] = fill(picture[window], hole[window])
        seconds.append(time.perf_counter() - begin)
        busy.append(time.process_time() - busy_begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "first_call_seconds": round(seconds[0], 2),
        "seconds": round(float(np.median(seconds[1:])), 2),
        "processor_seconds": round(float(np.median(busy[1:])), 2),
        "peak_gib": round(peak, 2),
    }


def _window(hole: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    margin = max(64, round(CONTEXT * max(rows[-1] - rows[0], columns[-1] - columns[0])))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _contact_sheet(methods: dict[str, Method], path: Path) -> None:
    """Rows of photo, hole, TELEA, SHIFTMAP and ours; two cases to a row."""
    chosen = {case.number: case for case in cases(256) if case.number in SHEET}
    _write_sheet(path, [_strip(methods, chosen[number]) for number in SHEET])


def _write_sheet(path: Path, strips: list[Pixels]) -> None:
    pairs = [np.hstack(strips[i : i + 2]) for i in range(0, len(strips), 2)]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = cv2.cvtColor(np.vstack(pairs), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _strip(methods: dict[str, Method], case: Case) -> Pixels:
    shown = [case.truth, _marked(case.truth, case.hole)]
    shown += [
        methods[name](case.truth, case.hole)[0]
        for name in (TELEA, SHIFTMAP, OURS)
        if name in methods
    ]
    return _framed(shown)


def _marked(pixels: Pixels, hole: Mask) -> Pixels:
    marked = pixels.copy()
    marked[hole] = (255, 0, 255)
    return marked


def _framed(panels: list[Pixels]) -> Pixels:
    framed = [cv2.resize(panel, (160, 160), interpolation=cv2.INTER_AREA) for panel in panels]
    return np.pad(np.hstack(framed), [(3, 3), (4, 4), (0, 0)], constant_values=255)


def _tables(results: dict[str, Any]) -> str:
    lines = [f"{results['machine']}.", ""]
    for side, methods in results["photos"].items():
        count = methods[OURS]["cases"]
        lines.append(f"| {side}², {count} cases | PSNR | SSIM | sharpness | s | processor s |")
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for name, row in methods.items():
            lines.append(
                f"| {name} | {row['psnr']:.2f} | {row['ssim']:.3f} | {row['sharpness']:.2f} "
                f"| {row['seconds']:.3f} | {row['processor_seconds']:.3f} |"
            )
        lines.append("")
    lines += ["| strange share | photo | TELEA | ours |", "| --- | --- | --- | --- |"]
    names = ("photo", TELEA, OURS)
    drawn = results["drawn"] | {
        "mean": {
            name: round(float(np.mean([row[name] for row in results["drawn"].values()])), 3)
            for name in names
        }
    }
    lines += [
        f"| {case} | {row['photo']} | {row[TELEA]} | {row[OURS]} |" for case, row in drawn.items()
    ]
    lines += ["", "| mean error in the hole | TELEA | ours |", "| --- | --- | --- |"]
    lines += [f"| {name} | {e[TELEA]} | {e[OURS]} |" for name, e in results["textures"].items()]
    large = results["large"]
    lines += [
        "",
        f"A 24 MP photo with a hole of 300x300: {large['seconds']} s, of the processor "
        f"{large['processor_seconds']} s (first call in a process "
        f"{large['first_call_seconds']} s); peak memory {large['peak_gib']} GiB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

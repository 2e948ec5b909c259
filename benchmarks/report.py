"""Where figures come from: the machine's description, and tables as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions: what a figure depends on."""
    import diffusers
    import psutil
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    model = next((line for line in text.splitlines() if line.startswith("model name")), ":")
    return {
        "processor": model.partition(":")[2].strip() or platform.processor(),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in text,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_end": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def write(name: str, title: str, command: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `results/NAME.md` and `.json`; print the table; give the Markdown's path."""
    RESULTS.mkdir(exist_ok=True)
    about = machine()
    columns = list(rows[0])
    lines = [
        f"# {title}",
        "",
        f"`{command}`",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
        *("| " + " | ".join(str(row.get(each, "")) for each in columns) + " |" for row in rows),
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in about.items()) + ".",
        "",
    ]
    target = RESULTS / f"{name}.md"
    target.write_text("\n".join(lines), encoding="utf-8")
    data = {"title": title, "command": command, "machine": about, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=2, default=str), encoding="utf-8")
    print("\n".join(lines))
    return target

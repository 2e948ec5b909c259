"""What people write today: a diffusers pipeline behind FastAPI, with a lock and a thread.

python -m benchmarks.serving_peer FOLDER PORT DTYPE
"""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from typing import Any

import torch
import uvicorn
from diffusers import StableDiffusionInpaintPipeline
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel


class Body(BaseModel):
    """The fields of Overpaint's native API that the benchmark uses."""

    image: str
    mask: str
    prompt: str
    seed: int
    options: dict[str, Any]
    model: str = ""


def create(folder: str, dtype: torch.dtype) -> FastAPI:
    """The application, its pipeline loaded."""
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, torch_dtype=dtype, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    app, lock = FastAPI(), asyncio.Lock()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/edits")
    async def edit(body: Body) -> dict[str, list[str]]:
        async with lock:
            return await asyncio.to_thread(run, pipeline, body)

    return app


def run(pipeline: Any, body: Body) -> dict[str, list[str]]:
    """One edit, as the model card's sample does it."""
    image, mask = _picture(body.image).convert("RGB"), _picture(body.mask).convert("L")
    made = pipeline(
        prompt=body.prompt,
        image=image,
        mask_image=mask,
        width=image.width,
        height=image.height,
        generator=torch.Generator().manual_seed(body.seed),
        **body.options,
    ).images[0]
    file = io.BytesIO()
    made.save(file, "PNG")
    return {"images": [base64.b64encode(file.getvalue()).decode()]}


def _picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


if __name__ == "__main__":
    uvicorn.run(
        create(sys.argv[1], getattr(torch, sys.argv[3])), port=int(sys.argv[2]), log_level="warning"
    )

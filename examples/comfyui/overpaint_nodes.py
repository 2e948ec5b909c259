"""ComfyUI nodes that let an Overpaint server edit: put this file into `ComfyUI/custom_nodes`.

They need nothing that ComfyUI does not bring. OVERPAINT_URL and OVERPAINT_KEY name the server and
its key, where it asks for one; the node's field `server` counts for more than OVERPAINT_URL.
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.request
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

DEFAULT_SERVER = "http://127.0.0.1:8000"
TIMEOUT_S = 900
MOST_SEED = 2**63 - 1

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_SERVER = ("STRING", {"default": ""})
_SEED = ("INT", {"default": 0, "min": 0, "max": MOST_SEED})


class Node:
    """What the nodes share, under the names that ComfyUI asks for.

    Attributes:
        required, optional: inputs by name.
    """

    CATEGORY = "overpaint"
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "warnings")
    required: ClassVar[dict[str, Any]]
    optional: ClassVar[dict[str, Any]]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """The node's inputs."""
        return {"required": cls.required, "optional": cls.optional}


class OverpaintEdit(Node):
    """Edits pictures with words; with a mask only what is under it changes."""

    FUNCTION = "edit"
    DESCRIPTION = "An edit on an Overpaint server. Pixels outside the mask stay as they are."
    required: ClassVar = {
        "image": ("IMAGE",),
        "prompt": ("STRING", {"multiline": True}),
        "seed": _SEED,
    }
    optional: ClassVar = {
        "mask": ("MASK",),
        "reference": ("IMAGE",),
        "negative_prompt": ("STRING", {"multiline": True, "default": ""}),
        "model": ("STRING", {"default": ""}),
        "options": ("STRING", {"multiline": True, "default": "{}"}),
        "server": _SERVER,
    }

    def edit(
        self,
        image: torch.Tensor,
        prompt: str,
        seed: int,
        mask: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        negative_prompt: str = "",
        model: str = "",
        options: str = "{}",
        server: str = "",
    ) -> tuple[torch.Tensor, str]:
        """Edit each picture of the batch.

        Args:
            image: (B, H, W, 3) or (B, H, W, 4), 0..1.
            mask: (B, H, W) or (1, H, W), 1 = edit.
            reference: (R, H, W, 3): further pictures that the instruction refers to.
            options: of the model's family, as JSON.

        Returns:
            Pictures (B, H, W, 3), and the server's warnings, one a line.
        """
        body = {
            "prompt": prompt,
            "negative_prompt": negative_prompt or None,
            "model": model or None,
            "options": json.loads(options or "{}"),
            "references": [] if reference is None else [_picture(each) for each in reference],
        }
        return _edited(server, image, mask, seed, body)


class OverpaintErase(Node):
    """Removes what is under a mask, without words."""

    FUNCTION = "erase"
    DESCRIPTION = "Covers what is under the mask with texture of the same picture."
    required: ClassVar = {"image": ("IMAGE",), "mask": ("MASK",), "seed": _SEED}
    optional: ClassVar = {"server": _SERVER}

    def erase(
        self, image: torch.Tensor, mask: torch.Tensor, seed: int, server: str = ""
    ) -> tuple[torch.Tensor, str]:
        """Erase in each picture of the batch; arguments as for `OverpaintEdit.edit`."""
        return _edited(server, image, mask, seed, {"model": "erase"})


NODE_CLASS_MAPPINGS = {"OverpaintEdit": OverpaintEdit, "OverpaintErase": OverpaintErase}
NODE_DISPLAY_NAME_MAPPINGS = {
    "OverpaintEdit": "Edit (Overpaint)",
    "OverpaintErase": "Erase (Overpaint)",
}


def _edited(
    server: str,
    images: torch.Tensor,
    masks: torch.Tensor | None,
    seed: int,
    body: dict[str, Any],
) -> tuple[torch.Tensor, str]:
    results, warnings = [], []
    for number, image in enumerate(images):
        asked = {**body, "image": _picture(image), "seed": (seed + number) % (MOST_SEED + 1)}
        if masks is not None:
            asked["mask"] = _picture(masks[min(number, len(masks) - 1)])
        answer = _post(server, {name: value for name, value in asked.items() if value is not None})
        results.append(_tensor(answer["images"][0]))
        warnings += answer["warnings"]
    return torch.stack(results), "\n".join(dict.fromkeys(warnings))


def _post(server: str, body: dict[str, Any]) -> dict[str, Any]:
    """The server's answer to an edit.

    Raises:
        RuntimeError: it refused, in its own words.
    """
    address = (server or os.environ.get("OVERPAINT_URL") or DEFAULT_SERVER).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise RuntimeError(
            f"Overpaint: {address} is not an address; it begins with http:// or https://"
        )
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OVERPAINT_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(  # noqa: S310 - checked above
        f"{address}/v1/edits", json.dumps(body).encode(), headers
    )
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            content: dict[str, Any] = json.load(answer)
            return content
    except urllib.error.HTTPError as error:
        details = json.load(error)["error"]
        field = details.get("field")
        words = f"{field}: {details['message']}" if field else details["message"]
        raise RuntimeError(f"Overpaint: {words}") from error
    except urllib.error.URLError as error:
        raise RuntimeError(f"Overpaint: no server answers at {address}: {error.reason}") from error


def _picture(values: torch.Tensor) -> str:
    """base64 of a PNG of (H, W) or (H, W, C), 0..1."""
    levels = (values.detach().cpu().numpy() * 255).round().clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _tensor(encoded: str) -> torch.Tensor:
    """(H, W, 3), 0..1, of base64 of a PNG."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)

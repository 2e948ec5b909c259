"""Commits that known repositories are pulled at, and hashes of their files where they are known.

A commit stands here where several independent public projects name it for its repository; one of
them may be mistaken, and a pull then says so. No commit of `ostris/Flex.2-preview` could be found:
it is pulled at its main branch, and the record of the pull has the commit. Hashes stand here where
such projects publish them; the hub states those of all files, and a pull compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pin:
    """What a repository is pulled at.

    Attributes:
        commit: 40 hexadecimal digits, or a branch or tag.
        sha256: of files, by path.
    """

    commit: str
    sha256: Mapping[str, str] = field(default_factory=dict)


PINS: Mapping[str, Pin] = {
    "sd2-community/stable-diffusion-2-inpainting": Pin(
        "5f74973cbb64c8568780732c17f43eb269d63a0d",
        {
            "text_encoder/model.safetensors": (
                "cce6febb0b6d876ee5eb24af35e27e764eb4f9b1d0b7c026c8c3333d4cfc916c"
            ),
            "unet/diffusion_pytorch_model.safetensors": (
                "9bcbb17f54b039f58bf78677fab8cd8a35dd686f6c9dd553e3646a8b0aaff41a"
            ),
            "vae/diffusion_pytorch_model.safetensors": (
                "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"
            ),
        },
    ),
    "black-forest-labs/FLUX.1-Kontext-dev": Pin("24e9dedc4ef646698dc8eb4e18ae2cec3c9fea0d"),
    "black-forest-labs/FLUX.1-Fill-dev": Pin("358293da0354175698b67ec8299acf928313a78a"),
    "black-forest-labs/FLUX.2-klein-4B": Pin("e7b7dc27f91deacad38e78976d1f2b499d76a294"),
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": Pin(
        "115134f363124c53c7d878647567d04daf26e41e"
    ),
    "facebook/sam2.1-hiera-base-plus": Pin(
        "b7320756a13354e7530a63935656d35b2f91a290",
        {"model.safetensors": "2012733a0de5d03efd1bba550a2847c4551be9ef2e0d497c83074df66189f780"},
    ),
    "facebook/sam2.1-hiera-large": Pin("665f8e2ad61cf5f53d65644ff27c8ee525124610"),
    "facebook/sam3": Pin("3c879f39826c281e95690f02c7821c4de09afae7"),
    "IDEA-Research/grounding-dino-base": Pin(
        "12bdfa3120f3e7ec7b434d90674b3396eccf88eb",
        {"model.safetensors": "5548f844c928c4b6f411fa8cbcc2bfa8dbbba437cb1d513975519f93c2a9ed21"},
    ),
    "google/owlv2-base-patch16-ensemble": Pin("cfd3195ba4ea9592eec887ded089f4c08eff231d"),
}
"""By repository."""

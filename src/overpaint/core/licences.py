"""The licences of the models that Overpaint knows: their restrictions in a few lines.

The lines are a guide for people; what binds is the text at `url`. A licence is `gated` here if its
publisher lets nobody download a model without accepting it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from overpaint.core.models import BUILTIN, ModelSpec


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Terms of a licence.

    Attributes:
        name: as `ModelSpec.licence` has it.
        version: number or date of the text that the lines are about.
        url: where that text is.
        text_sha256: of that text's bytes: what an acceptance is about, so that a new text needs a
            new one.
        commercial: whether it allows commercial use.
        gated: whether it must be accepted before its models are used.
        restrictions: what it forbids or demands, one sentence each.
        attribution: notice that must be passed on with the model.
    """

    name: str
    version: str
    url: str
    text_sha256: str
    commercial: bool = True
    gated: bool = False
    restrictions: tuple[str, ...] = ()
    attribution: str | None = None


_FLUX_RESTRICTIONS = (
    "Non-commercial use of the model only, and not in production: nothing that earns money, "
    "and nothing that end users deal with or that has an impact on them (1c, 2b, 4a).",
    "Results may be used, also commercially, but not to train a model that competes with it "
    "(2d). 4a forbids commercial use of data that the model produced; ask a lawyer.",
    "Filter content, or review results before anybody gets them; say that AI made them where "
    "the law demands it (2e).",
    "Not for military purposes, surveillance or biometric processing (4a).",
    "Not for anything unlawful, fraudulent, defamatory or abusive; nobody's likeness or rights "
    "without leave (4a).",
    "Everyone who gets the model gets the licence and the notice (3).",
)

FLUX_DEV = Licence(
    name="FLUX.1 [dev] Non-Commercial License",
    version="1.1.1",
    url="https://github.com/black-forest-labs/flux/blob/802fb47/model_licenses/LICENSE-FLUX1-dev",
    text_sha256="6f7b3d94ddd94380a4dc2d1211ed57883d320dea96f4393b34d4a454041029e1",
    commercial=False,
    gated=True,
    restrictions=_FLUX_RESTRICTIONS,
    attribution=(
        "The FLUX.1 [dev] Model is licensed by Black Forest Labs Inc. under the FLUX.1 [dev] "
        "Non-Commercial License. Copyright Black Forest Labs Inc. IN NO EVENT SHALL BLACK FOREST "
        "LABS INC. BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF "
        "CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH USE OF THIS MODEL."
    ),
)

FLUX = Licence(
    name="FLUX Non-Commercial License",
    version="2.1",
    url="https://huggingface.co/black-forest-labs/FLUX.2-klein-9B/blob/main/LICENSE.md",
    # We do not have the bytes of that text; its paragraphs are those of version 2.0.
    text_sha256="not known",
    commercial=False,
    gated=True,
    restrictions=_FLUX_RESTRICTIONS,
    attribution=(
        "The FLUX Model is licensed by Black Forest Labs Inc. under the FLUX Non-Commercial "
        "License. Copyright Black Forest Labs Inc. IN NO EVENT SHALL BLACK FOREST LABS INC. BE "
        "LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT "
        "OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH USE OF THIS MODEL."
    ),
)

OPEN_RAIL = Licence(
    name="CreativeML Open RAIL++-M",
    version="2022-11-24",
    url="https://github.com/Stability-AI/stablediffusion/blob/cf1d67a/LICENSE-MODEL",
    text_sha256="e514164be7f2ca2c0fb39e7283b01ab4a06d802837eaf171aa4645cfd7ee1157",
    restrictions=(
        "Not for anything unlawful, nor to exploit or harm minors.",
        "Not for false or personal information in order to harm somebody, nor to defame or harass.",
        "Not to discriminate, to exploit people's weaknesses, or to decide about their rights by "
        "machine alone.",
        "Not for medical advice, nor for law enforcement, justice, immigration or asylum.",
        "Everyone who gets the model or uses it over a network has the same restrictions and "
        "must be informed of them (4, 5).",
    ),
    attribution="Copyright (c) 2022 Stability AI and contributors",
)

OPEN_RAIL_2023 = replace(
    OPEN_RAIL,
    name="CreativeML Open RAIL++-M (2023)",
    version="2023-07-26",
    url=(
        "https://github.com/Stability-AI/generative-models/blob/0ad7de9/model_licenses/"
        "LICENSE-SDXL1.0"
    ),
    text_sha256="744afca95783155040321a97b52e56e19e38aaf28eb1340e46673ff76f8f719c",
    attribution="Copyright (c) 2023 Stability AI",
)
"""SDXL's own text, with the same restrictions."""

SAM = Licence(
    name="SAM License",
    version="2025-11-19",
    url="https://github.com/facebookresearch/sam3/blob/99d02f2/LICENSE",
    text_sha256="4dea99bfaa016e21bc860d73f344236bd1e5c4977d1a9a8fd32f822b500ae1be",
    gated=True,
    restrictions=(
        "Not for military or nuclear purposes, espionage, guns or illegal weapons; trade controls "
        "and sanctions apply (1b).",
        "Privacy and data protection laws apply; no reverse engineering (1b).",
        "Published research names it; everybody who gets the model gets the licence (1b).",
    ),
)

APACHE = Licence(
    name="Apache-2.0",
    version="2.0",
    url="https://www.apache.org/licenses/LICENSE-2.0.txt",
    text_sha256="cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    restrictions=(
        "Everyone who gets the model gets the licence, and its NOTICE if there is one (4).",
    ),
)

LICENCES: dict[str, Licence] = {
    each.name: each for each in (FLUX_DEV, FLUX, OPEN_RAIL, OPEN_RAIL_2023, SAM, APACHE)
}
"""By name."""

UNKNOWN = "unknown"

_REPOSITORIES = {spec.location.lower(): spec.licence for spec in BUILTIN if spec.source == "hub"}


def find(spec: ModelSpec) -> Licence | None:
    """The licence of a model, by its name or else by the repository it is from; None = unknown."""
    if spec.licence == UNKNOWN and spec.source == "hub":
        return LICENCES.get(_REPOSITORIES.get(spec.location.lower(), UNKNOWN))
    return LICENCES.get(spec.licence)


def is_commercial(spec: ModelSpec) -> bool:
    """Whether commercial use is allowed, as far as is known."""
    licence = find(spec)
    return spec.commercial and (licence is None or licence.commercial)

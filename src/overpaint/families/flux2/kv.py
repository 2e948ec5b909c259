"""FLUX.2 [klein] 9B KV: its references are computed once, and remembered across edits.

Follows diffusers' `Flux2KleinKVPipeline`. A mask, which that one does not know, works as in
`Flux2KleinInpaintPipeline`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from overpaint.checkpoints.memo import content
from overpaint.core.geometry import Plan
from overpaint.core.types import EditRequest
from overpaint.diffusion.tokens import sparse
from overpaint.diffusion.tokens.layout import Layout
from overpaint.families.flux2 import passes
from overpaint.families.flux2.editor import Encoded, KleinEditor, KleinLatent
from overpaint.families.flux2.layout import lay_out
from overpaint.families.flux2.options import DISTILLED, KleinKVOptions, Variant
from overpaint.families.flux2.references import ReferenceKeys, References


class KleinKV(KleinEditor[KleinKVOptions]):
    """The family `klein-kv`."""

    @property
    def variant(self) -> Variant:
        return DISTILLED

    def guidance(self, request: EditRequest, options: KleinKVOptions) -> float:
        return 1.0

    def layout(self, encoded: Encoded) -> Layout:
        """Text and noise: no step computes the references."""
        return lay_out(
            self.checkpoint, text=encoded.prompt.shape[1], noise=encoded.grids[0], references=()
        )

    @torch.inference_mode()
    def prepare(
        self, request: EditRequest, plan: Plan, options: KleinKVOptions, seeds: Sequence[int]
    ) -> tuple[list[KleinLatent], list[str]]:
        prepared, warnings = super().prepare(request, plan, options, seeds)
        first = prepared[0]
        layout = lay_out(self.checkpoint, text=0, noise=None, references=first.grids)
        references = References(first.reference, layout, (layout.key, content(first.reference)))
        for image in prepared:
            image.references = references
        # All seeds attend to the same ones.
        config = self.checkpoint.config("transformer")
        width = first.reference.element_size()
        first.held_bytes += sparse.kept_bytes(config, len(layout), width)
        return prepared, warnings

    def batch_key(self, prepared: KleinLatent) -> Hashable:
        assert prepared.references is not None
        return (prepared.key, prepared.references.key)

    def predict(self, batch: Sequence[KleinLatent]) -> torch.Tensor:
        transformer = self.checkpoint.component("transformer")
        keys = batch[0].keys or self._keys(transformer, batch[0])
        for image in batch:
            image.keys = keys
        return passes.predict(transformer, batch, torch.cat([image.latents for image in batch]))

    def _keys(self, transformer: Any, image: KleinLatent) -> ReferenceKeys:
        """Keys and values of an image's references: remembered, or computed now."""
        references = image.references
        assert references is not None
        return self.checkpoint.states.get(
            references.key, lambda: _computed(transformer, references)
        )


def _computed(transformer: Any, references: References) -> ReferenceKeys:
    """One pass over the references' tokens alone, at timestep 0 and without a text."""
    tokens, layout = references.tokens, references.layout
    reference_keys = ReferenceKeys.empty(transformer, tokens.shape[1])
    no_text = tokens.new_empty(1, 0, transformer.config.joint_attention_dim)
    with reference_keys.attached(transformer, "kept"):
        passes.computed(
            transformer,
            tokens,
            tokens.new_zeros(1),
            no_text,
            layout.text,
            layout.picture,
            rows=None,
            keep=True,
            before=None,
            negative=False,
        )
    return reference_keys

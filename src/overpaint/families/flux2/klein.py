"""FLUX.2 [klein], distilled and base: an instruction, a mask is optional, several references.

Base models are guided against an empty prompt, or the negative one where there is one. Distilled
models have no guidance: what would need it is refused.
"""

from __future__ import annotations

from overpaint.core.errors import InvalidRequest, UnsupportedOption
from overpaint.core.types import EditRequest
from overpaint.families.flux2.editor import KleinEditor
from overpaint.families.flux2.options import BASE, DISTILLED, KleinOptions, Variant


class Klein(KleinEditor[KleinOptions]):
    """The family `klein`."""

    @property
    def variant(self) -> Variant:
        is_distilled = self.checkpoint.inventory.index.get("is_distilled", False)
        return DISTILLED if is_distilled else BASE

    def settle(self, options: KleinOptions) -> KleinOptions:
        options = super().settle(options)
        if options.guidance_scale is None:
            return options.model_copy(update={"guidance_scale": self.variant.guidance})
        if options.guidance_scale > 1 and self.variant is DISTILLED:
            raise UnsupportedOption(
                f"{options.guidance_scale:g} would have no effect: this checkpoint is distilled "
                "and has no guidance; leave it out, or take a base model (klein-base)",
                field="options.guidance_scale",
            )
        return options

    def guidance(self, request: EditRequest, options: KleinOptions) -> float:
        scale = options.guidance_scale
        assert scale is not None
        if request.negative_prompt and self.variant is DISTILLED:
            raise InvalidRequest(
                "this checkpoint is distilled and has no guidance, so it would have no effect; say "
                "what you want in the prompt, or take a base model (klein-base)",
                field="negative_prompt",
            )
        if request.negative_prompt and scale <= 1:
            raise UnsupportedOption(
                f"{scale:g} switches guidance off, so the negative prompt would have no effect; "
                "give more than 1, or no negative prompt",
                field="options.guidance_scale",
            )
        return scale

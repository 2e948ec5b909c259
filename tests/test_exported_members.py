"""The public names, as a list: changing them is a decision, not an accident."""

from __future__ import annotations

import overpaint


def test_public_names():
    assert overpaint.__all__ == [
        "Component",
        "Denoiser",
        "Detection",
        "EditRequest",
        "EditResult",
        "Engine",
        "Family",
        "FamilyOptions",
        "FamilySpec",
        "Latent",
        "Lora",
        "Picture",
        "Plan",
        "Prepared",
        "Progress",
        "__version__",
        "detections",
        "errors",
        "load",
        "masks",
        "request",
        "segment",
    ]
    for name in overpaint.__all__:
        assert getattr(overpaint, name) is not None
    assert set(overpaint.__all__) <= set(dir(overpaint))


def test_errors_are_one_tree():
    codes = {
        error.code
        for error in vars(overpaint.errors).values()
        if isinstance(error, type) and issubclass(error, overpaint.errors.OverpaintError)
    }
    assert codes == {
        "cancelled",
        "conflict",
        "content_blocked",
        "deadline_exceeded",
        "error",
        "invalid_image",
        "invalid_mask",
        "invalid_request",
        "invalid_settings",
        "licence_not_accepted",
        "model_load_error",
        "model_not_found",
        "out_of_memory",
        "output_error",
        "overloaded",
        "safety_unavailable",
        "session_not_found",
        "store_unavailable",
        "unsupported_option",
    }

"""The safety policy and the marks of results, as the settings describe them."""

from __future__ import annotations

from pathlib import Path

from overpaint.apps.settings import AzureSettings, SafetySettings, Settings
from overpaint.checkpoints.component import Components
from overpaint.checkpoints.files import layout
from overpaint.provenance import sealing
from overpaint.provenance.marks import Marking
from overpaint.safety import azure, blocklist
from overpaint.safety.policy import ImageChecker, Policy, TextChecker


def policy(settings: Settings) -> Policy:
    """The policy, with its checkers made.

    Raises:
        InvalidSettings: a file of the settings cannot be read.
        ModelLoadError: a checker's folder holds no such model.
    """
    table = settings.safety
    if table.effective_mode == "off":
        return Policy.off()
    texts: list[TextChecker] = []
    if table.blocklist is not None:
        texts.append(blocklist.load(table.blocklist, table.languages))
    images = _image_checkers(table, settings.device)
    if table.azure is not None:
        service = _azure(table.azure)
        texts.append(azure.AzureText(service, table.azure.blocklists))
        images.append(azure.AzureImages(service))
    return Policy(
        mode=table.effective_mode,
        thresholds=table.all_thresholds(),
        text_checkers=texts,
        image_checkers=images,
    )


def _azure(table: AzureSettings) -> azure.ContentSafety:
    return azure.ContentSafety(
        table.endpoint,
        key=None if table.key is None else table.key.get_secret_value(),
        client_id=table.client_id,
        timeout_s=table.timeout_s,
    )


def _image_checkers(table: SafetySettings, device_name: str) -> list[ImageChecker]:
    if not table.classifiers and table.stable_diffusion_checker is None:
        return []
    # torch and transformers are loaded for those alone who use them.
    from overpaint.checkpoints.placement import devices_for
    from overpaint.safety import local

    device = devices_for(device_name)[0]
    checkers: list[ImageChecker] = [
        local.Classifier(each.folder, each.labels, each.score, device) for each in table.classifiers
    ]
    if table.stable_diffusion_checker is not None:
        checkers.append(local.StableDiffusionChecker(table.stable_diffusion_checker, device))
    return checkers


def own_checkers(
    folder: Path, components: Components, settings: Settings
) -> tuple[tuple[ImageChecker, ...], tuple[str, ...]]:
    """The safety checkers of a checkpoint, which its published pipeline would use.

    Args:
        folder: of the checkpoint.
        components: what the family knows of it.
        settings: of the policy; with `mode = "off"` none is used.

    Returns:
        Checkers, whose weights follow on first use; and a sentence for each that is not here.
    """
    if settings.safety.mode == "off":
        return (), ()
    checkers: list[ImageChecker] = []
    missing: list[str] = []
    for name in layout.checkers(layout.read_index(folder), components):
        if list((folder / name).glob("*.safetensors")):
            from overpaint.safety.local import OwnChecker

            checkers.append(OwnChecker(folder / name))
        else:
            missing.append(
                f"safety: the checkpoint names a checker of its own, '{name}', whose safetensors "
                "are not here, so it did not look at the result"
            )
    return tuple(checkers), tuple(missing)


def marking(settings: Settings) -> Marking:
    """What the files of results say about themselves.

    Raises:
        InvalidSettings: nothing can be signed with the certificate and the key.
    """
    table = settings.provenance
    signer = None
    if table.certificate is not None and table.key is not None:
        signer = sealing.load_signer(table.certificate, table.key, table.trust)
    return Marking(
        source_type=table.mark,
        recipe=table.recipe,
        watermark=table.watermark,
        prompt=table.prompt,
        signer=signer,
    )

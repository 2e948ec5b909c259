"""Settings of safety and provenance: what is checked, and what files say about themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from overpaint.apps.settings.base import FilePath, Table
from overpaint.core.safety import CATEGORIES, MAX_SEVERITY, Category

Severity = Annotated[int, Field(ge=0, le=MAX_SEVERITY)]


class ClassifierSettings(Table):
    """An image classifier that checks pictures.

    Attributes:
        folder: where it lies: config.json, model.safetensors, preprocessor_config.json.
        labels: its labels that mean a category.
        score: probability from which a label counts.
    """

    folder: FilePath
    labels: dict[str, Category] = Field(min_length=1)
    score: float = Field(default=0.5, ge=0, le=1)


class AzureSettings(Table):
    """Azure AI Content Safety, which checks texts and pictures.

    Attributes:
        endpoint: of the resource.
        key: of the resource; None = Entra ID.
        client_id: of a user-assigned managed identity, for Entra ID.
        blocklists: names of the resource's blocklists that count.
        timeout_s: seconds that one check may take, with all its attempts.
    """

    endpoint: str = Field(pattern="^https?://")
    key: SecretStr | None = None
    client_id: str | None = None
    blocklists: tuple[str, ...] = ()
    timeout_s: float = Field(default=10, gt=0)


class SafetySettings(Table):
    """What is checked before an edit and before its pictures leave.

    Attributes:
        mode: 'block' refuses what is flagged, 'annotate' only notes it, 'off' checks nothing;
            None = 'block' where a checker is configured.
        threshold: least severity that is flagged, 0 to 7.
        thresholds: the same for single categories.
        blocklist: file of words and patterns that prompts may not contain.
        languages: the lists of that file that count; empty = all.
        classifiers: image classifiers that check pictures.
        stable_diffusion_checker: folder of the `safety_checker` of Stable Diffusion 1.
        azure: Azure AI Content Safety.
    """

    mode: Literal["off", "annotate", "block"] | None = None
    threshold: Severity = 2
    thresholds: dict[Category, Severity] = Field(default_factory=dict)
    blocklist: FilePath | None = None
    languages: tuple[str, ...] = ()
    classifiers: tuple[ClassifierSettings, ...] = ()
    stable_diffusion_checker: FilePath | None = None
    azure: AzureSettings | None = None

    @property
    def has_checkers(self) -> bool:
        """Whether any checker is configured."""
        local = self.classifiers or self.stable_diffusion_checker
        return bool(self.blocklist or local or self.azure)

    @property
    def is_unset(self) -> bool:
        """Whether nothing is checked and no setting says so."""
        return self.mode is None and not self.has_checkers

    @property
    def effective_mode(self) -> Literal["off", "annotate", "block"]:
        """The mode that holds."""
        return self.mode or ("block" if self.has_checkers else "off")

    def all_thresholds(self) -> dict[Category, int]:
        """The threshold of each category."""
        return {each: self.thresholds.get(each, self.threshold) for each in CATEGORIES}

    @model_validator(mode="after")
    def _can_check(self) -> SafetySettings:
        if self.mode in ("annotate", "block") and not self.has_checkers:
            raise ValueError(
                f"mode '{self.mode}' needs a checker; configure one, or say mode = \"off\""
            )
        return self


class ProvenanceSettings(Table):
    """What the files of results say about themselves.

    Attributes:
        mark: whether they carry IPTC's digital source type, in XMP.
        recipe: whether they carry the recipe, for `overpaint replay`.
        watermark: whether what a trained model made in them has an invisible watermark.
        prompt: whether recipe and content credentials have the prompts, which can be personal.
        certificate: chain in PEM; files are then signed with content credentials (C2PA).
        key: its private key in PEM.
        trust: certificates in PEM of those whose signatures `overpaint verify` trusts.
    """

    mark: bool = True
    recipe: bool = False
    watermark: bool = False
    prompt: bool = False
    certificate: FilePath | None = None
    key: FilePath | None = None
    trust: FilePath | None = None

    @model_validator(mode="after")
    def _pair(self) -> ProvenanceSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give both certificate and key, or neither")
        return self

"""All settings as one value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from overpaint.apps.settings.base import (
    FilePath,
    RewriterSettings,
    Table,
    is_device,
    is_repository,
)
from overpaint.apps.settings.safety import ProvenanceSettings, SafetySettings
from overpaint.apps.settings.server import RemoteSettings, ServerSettings
from overpaint.apps.settings.sessions import JudgeSettings, SessionSettings
from overpaint.core.models import (
    AUTO,
    AttentionName,
    BackendName,
    CompileName,
    Lora,
    ModelSpec,
    RecordName,
)


class LoraSettings(Table):
    """A low-rank adapter of a model of one's own."""

    path: FilePath
    scale: float = 1.0


class ModelSettings(Table):
    """A model of one's own: `[models.NAME]`."""

    family: str
    folder: FilePath | None = None
    hub: Annotated[str | None, AfterValidator(is_repository)] = None
    revision: str | None = None
    licence: str = "unknown"
    commercial: bool = True
    about: str = ""
    loras: tuple[LoraSettings, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if (self.folder is None) == (self.hub is None):
            raise ValueError("give either folder or hub")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision needs hub")
        return self

    def spec(self, name: str) -> ModelSpec:
        """The model as the rest of Overpaint knows it."""
        return ModelSpec(
            name=name,
            family=self.family,
            source="hub" if self.hub else "folder",
            location=self.hub or str(self.folder),
            revision=self.revision,
            licence=self.licence,
            commercial=self.commercial,
            about=self.about,
            loras=tuple(Lora(each.path, each.scale) for each in self.loras),
        )


class Defaults(Table):
    """The model of each task where none is named; 'auto' = the best one that is here."""

    inpaint: str = AUTO
    edit: str = AUTO
    erase: str = AUTO
    extend: str = AUTO


class Settings(Table):
    """All settings.

    Attributes:
        device: where models run: one device, or several for what makes many edits at a time.
        dtype: precision of the weights; 'auto' chooses from the hardware.
        backend: what computes the networks of diffusion models.
        attention: the kernel of attention on CUDA.
        compile: whether networks are compiled in the background on CUDA.
        record: whether steps are recorded and replayed on CUDA.
        cache: where pulled models lie; None = the hub client's own cache.
        adapters: folder of low-rank adapters that may be added to a model's name.
        licences: file of the licences that were accepted; None = in the user's folder.
        debug: show tracebacks of Overpaint's own errors on the command line.
        defaults: models used where none is named.
        models: models of one's own by name.
        server: what `overpaint serve` serves, to whom, and how much of it.
        remote: an Overpaint server that workflow blocks use instead of this machine.
        safety: what is checked before an edit and before its pictures leave.
        provenance: what the files of results say about themselves.
        sessions: where sessions are kept, and how much of them.
        target_segmenter: a segmenter by words, which finds what an instruction names; 'judge' asks
            the judge.
        judge: a vision model that judges whether an edit was done.
        rewriter: a chat model that makes prompts of short wishes.
    """

    device: Annotated[str, AfterValidator(is_device)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: BackendName = "torch"
    attention: AttentionName = "auto"
    compile: CompileName = "auto"
    record: RecordName = "auto"
    cache: FilePath | None = None
    adapters: FilePath | None = None
    licences: FilePath | None = None
    debug: bool = False
    defaults: Defaults = Defaults()
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    server: ServerSettings = ServerSettings()
    remote: RemoteSettings = RemoteSettings()
    safety: SafetySettings = SafetySettings()
    provenance: ProvenanceSettings = ProvenanceSettings()
    sessions: SessionSettings = SessionSettings()
    target_segmenter: str | None = None
    judge: JudgeSettings = JudgeSettings()
    rewriter: RewriterSettings = RewriterSettings()

    def own_models(self) -> tuple[ModelSpec, ...]:
        """The models of one's own."""
        return tuple(model.spec(name) for name, model in self.models.items())

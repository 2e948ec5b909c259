"""What a person or a deployment decides once: the only reader of the environment and of files.

Later ones win: defaults here, then `overpaint.toml`, then environment variables. The file is the
first of `$OVERPAINT_CONFIG`, `./overpaint.toml` and the user's `overpaint/overpaint.toml` (in
`$XDG_CONFIG_HOME`, else `~/.config`; on Windows in `%APPDATA%`). docs/settings.md has the reason
of each setting.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from overpaint.core.errors import InvalidSettings
from overpaint.core.models import Lora, ModelSpec
from overpaint.core.safety import CATEGORIES, MAX_SEVERITY, Category

# Idle torch threads sleep instead of spinning: on busy cores, spinning made small edits 30 times
# slower. OpenMP reads it when torch is loaded, which is after this module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FILE_NAME = "overpaint.toml"
CONFIG_VARIABLE = "OVERPAINT_CONFIG"
KEYS_VARIABLE = "OVERPAINT_API_KEYS"
"""API keys as `name:key,name:key`, beside those of the settings file."""

AZURE_VARIABLES = {
    "CONTENT_SAFETY_ENDPOINT": ("azure", "endpoint"),
    "CONTENT_SAFETY_KEY": ("azure", "key"),
    "UAI_CLIENT_ID": ("azure", "client_id"),
    "CONTENT_SAFETY_THRESHOLD": ("threshold",),
}
"""Variables of Azure's published samples, and what they set in `[safety]`."""

SHORTEST_KEY = 16

_VARIABLES = {
    "OVERPAINT_DEVICE": "device",
    "OVERPAINT_DTYPE": "dtype",
    "OVERPAINT_CACHE": "cache",
    "OVERPAINT_DEBUG": "debug",
    "OVERPAINT_REMOTE": "remote",
}
"""Environment variables and the settings they set: those that differ from machine to machine."""


def _from_base(path: Path, info: ValidationInfo) -> Path:
    """Relative paths of a settings file start at its folder."""
    base: Path = (info.context or {}).get("base", Path())
    return base / path.expanduser()


def _is_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError("must be auto, cpu, mps, cuda or cuda:NUMBER")
    return name


def _is_repository(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError("must be OWNER/NAME of a hub repository")
    return name


FilePath = Annotated[Path, AfterValidator(_from_base)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LoraSettings(_Table):
    """A low-rank adapter of a model of one's own."""

    path: FilePath
    scale: float = 1.0


class ModelSettings(_Table):
    """A model of one's own: `[models.NAME]`."""

    family: str
    folder: FilePath | None = None
    hub: Annotated[str | None, AfterValidator(_is_repository)] = None
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
            raise ValueError("revision goes with hub")
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


class Defaults(_Table):
    """The model of each task where none is named."""

    inpaint: str = "tiny-flex2"
    edit: str = "tiny-kontext"
    erase: str = "erase"


class ServerSettings(_Table):
    """What `overpaint serve` serves, to whom, and how much of it.

    Attributes:
        models: names of the models served, loaded at start in this order; empty = the defaults
            whose files are there.
        aliases: further names of served models (`gpt-image-1 = "flex2"`).
        keys: API keys by the name of whom they are for.
        keys_file: lines of `name:key`, beside `keys`.
        memory_gb: weights that stay loaded; None = as many as fit.
        max_queued: edits that may wait; more get 429.
        max_images_under_way: images that are being made at the same time.
        max_queued_megapixels: pixels of all accepted pictures together.
        max_body_mb: size of a request's body.
        max_megapixels: of a picture, and of an answer whose size is asked for.
        max_prompt: characters of a prompt.
        max_images: images of one request.
        max_steps: denoising steps of one image.
        timeout_s: seconds that an edit may take in all; callers may ask for fewer.
        body_timeout_s: seconds in which a request's body must arrive.
        keep_results_s: seconds that results of asynchronous edits are kept.
        keep_results_mb: memory for them.
        drain_s: seconds that a stopping server waits for finished results to be fetched.
    """

    models: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    keys: dict[str, SecretStr] = Field(default_factory=dict)
    keys_file: FilePath | None = None
    memory_gb: float | None = Field(default=None, gt=0)
    max_queued: int = Field(default=64, ge=1)
    max_images_under_way: int = Field(default=32, ge=1)
    max_queued_megapixels: float = Field(default=400, gt=0)
    max_body_mb: float = Field(default=64, gt=0)
    max_megapixels: float = Field(default=25, gt=0)
    max_prompt: int = Field(default=8000, ge=1)
    max_images: int = Field(default=10, ge=1)
    max_steps: int = Field(default=200, ge=1)
    timeout_s: float = Field(default=600, gt=0)
    body_timeout_s: float = Field(default=60, gt=0)
    keep_results_s: float = Field(default=600, gt=0)
    keep_results_mb: float = Field(default=512, gt=0)
    drain_s: float = Field(default=30, ge=0)

    def check_address(self, host: str) -> None:
        """Others than this machine may reach the server only with a key.

        Raises:
            InvalidSettings: there are none, or they are unusable.
        """
        if not self.all_keys() and not is_loopback(host):
            raise InvalidSettings(
                f"others can reach {host}, so API keys are needed: set {KEYS_VARIABLE}=name:key, "
                "or [server.keys] in the settings file",
                field="host",
            )

    def all_keys(self) -> dict[str, str]:
        """API keys by name, with those of the file.

        Raises:
            InvalidSettings: the file cannot be read, a line is not `name:key`, or a key is short.
        """
        keys = {name: key.get_secret_value() for name, key in self.keys.items()}
        if self.keys_file is not None:
            try:
                lines = self.keys_file.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise InvalidSettings(
                    f"{self.keys_file} cannot be read: {error}", field="server.keys_file"
                ) from error
            keys |= _named_keys((line for line in lines if line.strip()), "server.keys_file")
        if short := [name for name, key in keys.items() if len(key) < SHORTEST_KEY]:
            raise InvalidSettings(
                f"the key '{short[0]}' has fewer than {SHORTEST_KEY} characters; make one with "
                "`openssl rand -hex 24`",
                field="server.keys",
            )
        return keys


class RemoteSettings(_Table):
    """An Overpaint server that workflow blocks use instead of this machine.

    Attributes:
        url: `http://machine:8000`; None = blocks work on this machine.
        key: API key that is sent to that server, and to no other.
        timeout_s: seconds that an answer may take.
    """

    url: str | None = Field(default=None, pattern="^https?://")
    key: SecretStr | None = None
    timeout_s: float = Field(default=600, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        """`remote = "http://…"` is short for a table with this URL alone."""
        return {"url": value} if isinstance(value, str) else value


Severity = Annotated[int, Field(ge=0, le=MAX_SEVERITY)]


class ClassifierSettings(_Table):
    """An image classifier that checks pictures.

    Attributes:
        folder: where it lies: config.json, model.safetensors, preprocessor_config.json.
        labels: its labels that mean a category.
        score: probability from which a label counts.
    """

    folder: FilePath
    labels: dict[str, Category] = Field(min_length=1)
    score: float = Field(default=0.5, ge=0, le=1)


class AzureSettings(_Table):
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


class SafetySettings(_Table):
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
        """Whether nothing is checked without anybody having said so."""
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


class ProvenanceSettings(_Table):
    """What the files of results say about themselves.

    Attributes:
        mark: whether they carry IPTC's digital source type, in XMP.
        recipe: whether they carry the recipe, for `overpaint replay`.
        prompt: whether that recipe has the prompts, which can be personal.
    """

    mark: bool = True
    recipe: bool = False
    prompt: bool = False


class Settings(_Table):
    """All settings.

    Attributes:
        device: where models run.
        dtype: precision of the weights; 'auto' chooses from the hardware.
        cache: where pulled models lie; None = the hub client's own cache.
        debug: show tracebacks of Overpaint's own errors on the command line.
        defaults: models used where none is named.
        models: models of one's own by name.
        server: what `overpaint serve` serves, to whom, and how much of it.
        remote: an Overpaint server that workflow blocks use instead of this machine.
        safety: what is checked before an edit and before its pictures leave.
        provenance: what the files of results say about themselves.
    """

    device: Annotated[str, AfterValidator(_is_device)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cache: FilePath | None = None
    debug: bool = False
    defaults: Defaults = Defaults()
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    server: ServerSettings = ServerSettings()
    remote: RemoteSettings = RemoteSettings()
    safety: SafetySettings = SafetySettings()
    provenance: ProvenanceSettings = ProvenanceSettings()

    def own_models(self) -> tuple[ModelSpec, ...]:
        """The models of one's own."""
        return tuple(model.spec(name) for name, model in self.models.items())


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: environment variables; None = the process's own.

    Raises:
        InvalidSettings: a file cannot be read, or a setting is unknown or has a wrong value; the
            message names the file (or variable), the key and the known keys.
    """
    environ = os.environ if environ is None else environ
    file = find_file(environ)
    values, where = (_read(file), str(file)) if file else ({}, "environment")
    if _set_azure(values, environ) and not file:
        where = "CONTENT_SAFETY_*"
    settings = _parse(values, where, file.parent if file else Path())
    for variable, value in _variables(environ).items():
        key = _VARIABLES[variable]
        parsed = _parse({key: value}, variable, Path())
        settings = settings.model_copy(update={key: getattr(parsed, key)})
    if keys := environ.get(KEYS_VARIABLE):
        given = _named_keys(keys.split(","), KEYS_VARIABLE)
        named = {name: SecretStr(key) for name, key in given.items()}
        server = settings.server.model_copy(update={"keys": settings.server.keys | named})
        settings = settings.model_copy(update={"server": server})
    return settings


def _set_azure(values: dict[str, Any], environ: Mapping[str, str]) -> bool:
    """Put Azure's variables into the file's values; whether there were any.

    The key and the identity mean nothing without an endpoint, from wherever that comes.
    """
    safety = values.setdefault("safety", {})
    if not isinstance(safety, dict):
        return False
    azure = dict(safety.get("azure") or {})
    for variable, place in AZURE_VARIABLES.items():
        if value := environ.get(variable):
            target = azure if place[0] == "azure" else safety
            target[place[-1]] = value
    if "endpoint" in azure:
        safety["azure"] = azure
    return any(environ.get(variable) for variable in AZURE_VARIABLES)


def find_file(environ: Mapping[str, str]) -> Path | None:
    """The settings file that counts, or None.

    Raises:
        InvalidSettings: `$OVERPAINT_CONFIG` names a file that is not there.
    """
    named = environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise InvalidSettings(
                f"'{named}' is not a file; correct it or unset it", field=CONFIG_VARIABLE
            )
        return Path(named).absolute()
    for file in (Path(FILE_NAME), _user_folder(environ) / "overpaint" / FILE_NAME):
        if file.is_file():
            return file.absolute()
    return None


def _user_folder(environ: Mapping[str, str]) -> Path:
    variable = "APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME"
    named = environ.get(variable)
    return Path(named) if named else Path(environ.get("HOME", "~")).expanduser() / ".config"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    known = [CONFIG_VARIABLE, KEYS_VARIABLE, *_VARIABLES]
    found = {name: value for name, value in environ.items() if name.startswith("OVERPAINT_")}
    for name in found:
        if name not in known:
            raise InvalidSettings(
                f"no such variable{_near(name, known)}; known are {', '.join(known)}", field=name
            )
    return {name: value for name, value in found.items() if name in _VARIABLES and value}


def _named_keys(lines: Iterable[str], where: str) -> dict[str, str]:
    keys = {}
    for number, line in enumerate(lines, 1):
        name, colon, key = line.strip().partition(":")
        if not name or not colon or not key:
            raise InvalidSettings(f"entry {number} is not NAME:KEY", field=where)
        keys[name] = key
    return keys


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"cannot be read as TOML: {error}", field=str(file)) from error


def _parse(values: Mapping[str, Any], where: str, base: Path) -> Settings:
    try:
        return Settings.model_validate(values, context={"base": base})
    except ValidationError as error:
        raise InvalidSettings(_explain(error), field=where) from error


def _explain(error: ValidationError) -> str:
    # An unknown key is often the misspelling of one that is missed: name it first.
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return _unknown(key, _keys_beside(location))
    if first["type"] == "missing":
        return f"{key} is missing"
    message = first["msg"].removeprefix("Value error, ")
    value = f"{first['input']!r}: " if isinstance(first["input"], str | int | float) else ""
    return f"{key}: {value}{message[0].lower()}{message[1:]}"


def _unknown(key: str, known: list[str]) -> str:
    name = key.rsplit(".", 1)[-1]
    return f"{key} is not a setting{_near(name, known)}; known are {', '.join(sorted(known))}"


def _keys_beside(location: list[str]) -> list[str]:
    """Names that are known where the location's last part stands."""
    tables: dict[str, type[BaseModel]] = {
        "defaults": Defaults,
        "models": ModelSettings,
        "server": ServerSettings,
        "remote": RemoteSettings,
        "safety": SafetySettings,
        "provenance": ProvenanceSettings,
    }
    if "loras" in location[2:]:
        return list(LoraSettings.model_fields)
    if location[:2] == ["safety", "azure"] and len(location) > 2:
        return list(AzureSettings.model_fields)
    if "classifiers" in location[1:-1]:
        return list(ClassifierSettings.model_fields)
    table = tables.get(location[0], Settings) if len(location) > 1 else Settings
    return list(table.model_fields)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""

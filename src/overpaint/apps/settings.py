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
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from overpaint.core.errors import InvalidSettings
from overpaint.core.models import Lora, ModelSpec

FILE_NAME = "overpaint.toml"
CONFIG_VARIABLE = "OVERPAINT_CONFIG"

_VARIABLES = {
    "OVERPAINT_DEVICE": "device",
    "OVERPAINT_DTYPE": "dtype",
    "OVERPAINT_CACHE": "cache",
    "OVERPAINT_DEBUG": "debug",
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


class Settings(_Table):
    """All settings.

    Attributes:
        device: where models run.
        dtype: precision of the weights; 'auto' chooses from the hardware.
        cache: where pulled models lie; None = the hub client's own cache.
        debug: show tracebacks of Overpaint's own errors on the command line.
        defaults: models used where none is named.
        models: models of one's own by name.
    """

    device: Annotated[str, AfterValidator(_is_device)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cache: FilePath | None = None
    debug: bool = False
    defaults: Defaults = Defaults()
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    def own_models(self) -> tuple[ModelSpec, ...]:
        """The models of one's own."""
        return tuple(model.spec(name) for name, model in self.models.items())


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
    settings = _parse(_read(file), str(file), file.parent) if file else Settings()
    for variable, value in _variables(environ).items():
        key = _VARIABLES[variable]
        parsed = _parse({key: value}, variable, Path())
        settings = settings.model_copy(update={key: getattr(parsed, key)})
    return settings


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
    known = [CONFIG_VARIABLE, *_VARIABLES]
    found = {name: value for name, value in environ.items() if name.startswith("OVERPAINT_")}
    for name in found:
        if name not in known:
            raise InvalidSettings(
                f"no such variable{_near(name, known)}; known are {', '.join(known)}", field=name
            )
    return {name: value for name, value in found.items() if name in _VARIABLES and value}


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
    tables: dict[str, type[BaseModel]] = {"defaults": Defaults, "models": ModelSettings}
    if "loras" in location[2:]:
        return list(LoraSettings.model_fields)
    table = tables.get(location[0], Settings) if len(location) > 1 else Settings
    return list(table.model_fields)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""

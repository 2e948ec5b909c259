"""The settings of a person or a deployment; nothing else reads the environment or settings files.

Later ones win: defaults here, then `overpaint.toml`, then environment variables. The file is the
first of `$OVERPAINT_CONFIG`, `./overpaint.toml` and the user's `overpaint/overpaint.toml` (in
`$XDG_CONFIG_HOME`, else `~/.config`; on Windows in `%APPDATA%`). docs/settings.md has the reason
of each setting.
"""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from overpaint.apps.settings.base import RewriterSettings, named_keys
from overpaint.apps.settings.safety import (
    AzureSettings,
    ClassifierSettings,
    ProvenanceSettings,
    SafetySettings,
)
from overpaint.apps.settings.server import (
    KEYS_VARIABLE,
    RemoteSettings,
    ServerSettings,
    is_loopback,
)
from overpaint.apps.settings.sessions import JudgeSettings, SessionSettings, WarnSettings
from overpaint.apps.settings.tables import Defaults, LoraSettings, ModelSettings, Settings
from overpaint.core import plain_values
from overpaint.core.errors import InvalidSettings

__all__ = [
    "AzureSettings",
    "Defaults",
    "ModelSettings",
    "ProvenanceSettings",
    "RemoteSettings",
    "RewriterSettings",
    "SafetySettings",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "find_file",
    "is_loopback",
    "load",
    "user_folder",
]

FILE_NAME = "overpaint.toml"
CONFIG_VARIABLE = "OVERPAINT_CONFIG"

AZURE_VARIABLES = {
    "CONTENT_SAFETY_ENDPOINT": ("azure", "endpoint"),
    "CONTENT_SAFETY_KEY": ("azure", "key"),
    "UAI_CLIENT_ID": ("azure", "client_id"),
    "CONTENT_SAFETY_THRESHOLD": ("threshold",),
}
"""Variables of Azure's published samples, and what they set in `[safety]`."""

_VARIABLES = {
    "OVERPAINT_DEVICE": "device",
    "OVERPAINT_DTYPE": "dtype",
    "OVERPAINT_BACKEND": "backend",
    "OVERPAINT_CACHE": "cache",
    "OVERPAINT_DEBUG": "debug",
    "OVERPAINT_LICENCES": "licences",
    "OVERPAINT_REMOTE": "remote",
}
"""Environment variables and the settings they set: those that differ from machine to machine."""


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
    variables = _set_azure(values, environ)
    settings = _parse(values, where, file.parent if file else Path(), variables)
    _require_use(variables.values(), settings.safety)
    for variable, value in _variables(environ).items():
        key = _VARIABLES[variable]
        parsed = _parse({key: value}, variable, Path())
        settings = settings.model_copy(update={key: getattr(parsed, key)})
    if keys := environ.get(KEYS_VARIABLE):
        keys_by_name = named_keys(keys.split(","), KEYS_VARIABLE)
        secrets = {name: SecretStr(key) for name, key in keys_by_name.items()}
        server = settings.server.model_copy(update={"keys": settings.server.keys | secrets})
        settings = settings.model_copy(update={"server": server})
    return settings


def _set_azure(values: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put Azure's variables into the file's values; names of those that are there, by setting.

    The key and the identity mean nothing without an endpoint, from wherever that comes.
    """
    safety = values.setdefault("safety", {})
    if not isinstance(safety, dict):
        return {}
    azure = dict(safety.get("azure") or {})
    for variable, place in AZURE_VARIABLES.items():
        if value := environ.get(variable):
            target = azure if place[0] == "azure" else safety
            target[place[-1]] = value
    if "endpoint" in azure:
        safety["azure"] = azure
    return {
        ".".join(("safety", *place)): variable
        for variable, place in AZURE_VARIABLES.items()
        if environ.get(variable)
    }


def _require_use(variables: Iterable[str], safety: SafetySettings) -> None:
    """Refuse variables of a checker that is not there: somebody believes that it checks.

    Raises:
        InvalidSettings: a variable has no effect, and no setting says that nothing is to be
            checked.
    """
    if safety.mode == "off":
        return
    for variable in variables:
        is_used = safety.azure or (AZURE_VARIABLES[variable][0] != "azure" and safety.has_checkers)
        if not is_used:
            raise InvalidSettings(
                "it is set without an endpoint, so nobody would check anything; set "
                "CONTENT_SAFETY_ENDPOINT or safety.azure.endpoint, or unset it",
                field=variable,
            )


def find_file(environ: Mapping[str, str]) -> Path | None:
    """The settings file that counts, or None.

    Raises:
        InvalidSettings: `$OVERPAINT_CONFIG` names a file that is not there.
    """
    config_path = environ.get(CONFIG_VARIABLE)
    if config_path:
        if not Path(config_path).is_file():
            raise InvalidSettings(
                f"'{config_path}' is not a file; correct it or unset it", field=CONFIG_VARIABLE
            )
        return Path(config_path).absolute()
    for file in (Path(FILE_NAME), user_folder(environ) / FILE_NAME):
        if file.is_file():
            return file.absolute()
    return None


def user_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of a person's own settings; it need not exist yet."""
    environ = os.environ if environ is None else environ
    base = environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME")
    home = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config"
    return home / "overpaint"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    names = [CONFIG_VARIABLE, KEYS_VARIABLE, *_VARIABLES]
    variables = {name: value for name, value in environ.items() if name.startswith("OVERPAINT_")}
    for name in variables:
        if name not in names:
            raise InvalidSettings(
                f"no such variable{_near(name, names)}; known are {', '.join(names)}", field=name
            )
    return {name: value for name, value in variables.items() if name in _VARIABLES and value}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(f"cannot be read: {error.strerror}", field=str(file)) from error
    except ValueError as error:
        raise InvalidSettings(f"cannot be read as TOML: {error}", field=str(file)) from error


def _parse(
    values: Mapping[str, Any], where: str, base: Path, variables: Mapping[str, str] | None = None
) -> Settings:
    """The settings; an error names the variable that a setting comes from, else `where`."""
    try:
        return Settings.model_validate(values, context={"base": base})
    except ValidationError as error:
        first = plain_values.first_error(error)
        key = ".".join(str(part) for part in first["loc"])
        field = (variables or {}).get(key, where)
        raise InvalidSettings(_explain(first), field=field) from error


def _explain(first: ErrorDetails) -> str:
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return _unknown(key, _keys_beside(location))
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {plain_values.complaint(first)}"


def _unknown(key: str, names: list[str]) -> str:
    name = key.rsplit(".", 1)[-1]
    return f"{key} is not a setting{_near(name, names)}; known are {', '.join(sorted(names))}"


def _keys_beside(location: list[str]) -> list[str]:
    """Names that are known where the location's last part stands."""
    tables: dict[str, type[BaseModel]] = {
        "defaults": Defaults,
        "models": ModelSettings,
        "server": ServerSettings,
        "remote": RemoteSettings,
        "safety": SafetySettings,
        "provenance": ProvenanceSettings,
        "sessions": SessionSettings,
        "judge": JudgeSettings,
        "rewriter": RewriterSettings,
    }
    if "loras" in location[2:]:
        return list(LoraSettings.model_fields)
    if location[:2] == ["sessions", "warn"] and len(location) > 2:
        return list(WarnSettings.model_fields)
    if location[:2] == ["safety", "azure"] and len(location) > 2:
        return list(AzureSettings.model_fields)
    if "classifiers" in location[1:-1]:
        return list(ClassifierSettings.model_fields)
    table = tables.get(location[0], Settings) if len(location) > 1 else Settings
    return list(table.model_fields)


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""

"""Which licences were accepted, by whom and when; and the one check that asks for it."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from overpaint.apps import settings as settings_
from overpaint.core import licences
from overpaint.core.errors import InvalidSettings, LicenceNotAccepted
from overpaint.core.files import atomic_write

if TYPE_CHECKING:
    from overpaint.apps.settings import Settings
    from overpaint.core.licences import Licence
    from overpaint.core.models import ModelSpec

FILE_NAME = "accepted-licences.json"
FIELD = "licences"
LONGEST_NAME = 200


class Acceptance(BaseModel):
    """Somebody accepted a licence.

    Attributes:
        licence, version: which.
        text_sha256: of the licence's text.
        model: for which it was asked.
        who: as they call themselves.
        when: in UTC, ISO 8601.
    """

    licence: str
    version: str
    text_sha256: str
    model: str
    who: str
    when: str


_Acceptances = TypeAdapter(list[Acceptance])


def require(spec: ModelSpec, settings: Settings) -> None:
    """Pass where a model's licence need not be accepted, or was.

    Raises:
        LicenceNotAccepted: it was not; the message says how.
        InvalidSettings: the file of acceptances cannot be read.
    """
    licence = licences.find(spec)
    if licence is not None and licence.gated and accepted(licence, settings) is None:
        raise LicenceNotAccepted(
            f"the licence of '{spec.name}' must be accepted first, the {licence.name} "
            f"{licence.version}: read `overpaint licence show {spec.name}`, then run `overpaint "
            f"licence accept {spec.name}`"
        )


def accepted(licence: Licence, settings: Settings) -> Acceptance | None:
    """Who accepted this very text; None = nobody.

    Raises:
        InvalidSettings: the file of acceptances cannot be read.
    """
    acceptances = [each for each in _all(settings) if each.text_sha256 == licence.text_sha256]
    return acceptances[-1] if acceptances else None


def accept(spec: ModelSpec, licence: Licence, who: str | None, settings: Settings) -> Acceptance:
    """Write down that somebody accepts a licence.

    Args:
        spec: the model it is about.
        licence: of that model.
        who: None = the name they are logged in with.
        settings: say where it is kept.

    Raises:
        InvalidSettings: there is no name, or what was accepted before cannot be read.
        OutputError: it cannot be written.
    """
    name = (who if who is not None else _login()).strip()[:LONGEST_NAME]
    if not name:
        raise InvalidSettings("say who accepts it: --who NAME", field="who")
    acceptance = Acceptance(
        licence=licence.name,
        version=licence.version,
        text_sha256=licence.text_sha256,
        model=spec.name,
        who=name,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = place(settings)
    everything = [each.model_dump() for each in (*_all(settings), acceptance)]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(everything, indent=2, ensure_ascii=False).encode(), field=FIELD)
    return acceptance


def place(settings: Settings) -> Path:
    """The file of acceptances."""
    return settings.licences or settings_.user_folder() / FILE_NAME


def beyond_this_machine(spec: ModelSpec) -> str | None:
    """A caution before others are served with a model; None = there is none."""
    if licences.is_commercial(spec):
        return None
    return (
        f"'{spec.name}' is for non-commercial use only, but other machines can reach this server: "
        f"see `overpaint licence show {spec.name}`"
    )


def describe(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """What is known of a model's licence, as plain data."""
    licence = licences.find(spec)
    if licence is None:
        untold = spec.commercial and spec.licence == licences.UNKNOWN
        commercial = None if untold else spec.commercial
        return {"model": spec.name, "licence": spec.licence, "commercial": commercial}
    by = accepted(licence, settings)
    return {
        "model": spec.name,
        "licence": licence.name,
        "version": licence.version,
        "url": licence.url,
        "text_sha256": licence.text_sha256,
        "commercial": licences.is_commercial(spec),
        "restrictions": list(licence.restrictions),
        "attribution": licence.attribution,
        "must_be_accepted": licence.gated,
        "accepted": None if by is None else by.model_dump(),
    }


def _all(settings: Settings) -> list[Acceptance]:
    path = place(settings)
    try:
        return _Acceptances.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise InvalidSettings(
            f"{path} cannot be read as a list of accepted licences; correct or remove it, and "
            "accept again",
            field=FIELD,
        ) from error


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""

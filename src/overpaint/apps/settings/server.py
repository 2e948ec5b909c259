"""Settings of the server, and of the server that others use."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import Field, SecretStr, model_validator

from overpaint.apps.settings.base import FilePath, Table, named_keys
from overpaint.core.errors import InvalidSettings

KEYS_VARIABLE = "OVERPAINT_API_KEYS"
"""API keys as `name:key,name:key`, beside those of the settings file."""

SHORTEST_KEY = 16


HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$|^[0-9a-fA-F:]+$", max_length=253)]
"""Without scheme and port."""

Origin = Annotated[str, Field(pattern=r"^https?://[^/?#@\\\s]+$", max_length=300)]
"""As browsers send it: scheme, host, and a port that is not the scheme's own."""


class ServerSettings(Table):
    """What `overpaint serve` serves, to whom, and how much of it.

    Attributes:
        models: names of the models served, loaded at start in this order; empty = the defaults
            whose files are there.
        aliases: further names of served models (`gpt-image-1 = "flex2"`).
        allowed_hosts: names that the server answers to beside localhost, as a proxy sends them on;
            empty = any name, or none where it listens on this machine alone.
        origins: of pages that may use the server though they are at another host, as behind a
            proxy that does not send its own host name on (`https://edit.example.org`).
        keys: API keys by the name of whom they are for.
        keys_file: lines of `name:key`, beside `keys`.
        memory_gb: weights that stay loaded; None = as many as fit.
        max_queued: edits that may wait; more get 429.
        max_images_under_way: images that are being made at the same time.
        max_queued_megapixels: pixels of all accepted pictures together.
        max_body_mb: size of a request's body.
        max_megapixels: of a picture.
        max_canvas_megapixels: of an answer whose size is asked for.
        max_megapixel_steps: work of one request: `core.work.workload` says how it is estimated.
        max_megapixel_steps_per_key: work of all edits of a key that wait or are made.
        max_prompt: characters of a prompt.
        max_images: images of one request.
        max_steps: denoising steps of one image.
        timeout_s: seconds that an edit may take in all, from when its request arrives; callers may
            ask for fewer.
        body_timeout_s: seconds in which a request's header, and then its body, must arrive.
        decode_timeout_s: seconds that decoding the pictures of a request may take.
        check_timeout_s: seconds that the safety policy may take for a request or a result.
        write_timeout_s: seconds in which a client must take up some of its answer.
        max_connections: open at the same time; None = as many as there are file descriptors for.
        keep_results_s: seconds that results of asynchronous edits are kept.
        keep_results_mb: memory for them.
        drain_s: seconds that a stopping server has to finish edits and to hand over results.
        pulls: whether callers may have the server download models; None = only where nobody but
            this machine reaches it.
    """

    models: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    allowed_hosts: tuple[HostName, ...] = ()
    origins: tuple[Origin, ...] = ()
    keys: dict[str, SecretStr] = Field(default_factory=dict)
    keys_file: FilePath | None = None
    memory_gb: float | None = Field(default=None, gt=0)
    max_queued: int = Field(default=64, ge=1)
    max_images_under_way: int = Field(default=32, ge=1)
    max_queued_megapixels: float = Field(default=400, gt=0)
    max_body_mb: float = Field(default=64, gt=0)
    max_megapixels: float = Field(default=25, gt=0)
    max_canvas_megapixels: float = Field(default=4.2, gt=0)
    max_megapixel_steps: float = Field(default=4000, gt=0)
    max_megapixel_steps_per_key: float = Field(default=16000, gt=0)
    max_prompt: int = Field(default=32000, ge=1)
    max_images: int = Field(default=10, ge=1)
    max_steps: int = Field(default=200, ge=1)
    timeout_s: float = Field(default=600, gt=0)
    body_timeout_s: float = Field(default=60, gt=0)
    decode_timeout_s: float = Field(default=10, gt=0)
    check_timeout_s: float = Field(default=60, gt=0)
    write_timeout_s: float = Field(default=30, gt=0)
    max_connections: int | None = Field(default=None, ge=1)
    keep_results_s: float = Field(default=600, gt=0)
    keep_results_mb: float = Field(default=512, gt=0)
    drain_s: float = Field(default=30, ge=0)
    pulls: bool | None = None

    def may_pull(self, *, loopback_only: bool) -> bool:
        """Whether callers may have the server download models.

        Args:
            loopback_only: the server listens on this machine alone.
        """
        if self.pulls is not None:
            return self.pulls
        return loopback_only and not self.allowed_hosts and not self.origins

    def of_a_key(self, amount: float) -> float:
        """The share of a common limit that one key may use: half of it, where there are several
        keys.

        Raises:
            InvalidSettings: see `all_keys`.
        """
        return amount / 2 if len(self.all_keys()) > 1 else amount

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
            InvalidSettings: the file cannot be read, a line is not `name:key`, a key is short, or
                two names share one.
        """
        keys = {name: key.get_secret_value() for name, key in self.keys.items()}
        if self.keys_file is not None:
            try:
                lines = self.keys_file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise InvalidSettings(
                    f"{self.keys_file} cannot be read: {reason}", field="server.keys_file"
                ) from error
            keys |= named_keys((line for line in lines if line.strip()), "server.keys_file")
        if short := [name for name, key in keys.items() if len(key) < SHORTEST_KEY]:
            raise InvalidSettings(
                f"the key '{short[0]}' has fewer than {SHORTEST_KEY} characters; make one with "
                "`openssl rand -hex 24`",
                field="server.keys",
            )
        uses = Counter(keys.values())
        if shared := [name for name, key in keys.items() if uses[key] > 1]:
            raise InvalidSettings(
                f"the names {', '.join(shared)} share a key; give each name a key of its own",
                field="server.keys",
            )
        return keys


class RemoteSettings(Table):
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


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")

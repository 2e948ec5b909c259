"""Idempotency keys: a request that comes again gets the first one's answer.

Two requests are the same if they ask for the same, however their bodies are written: JSON in
another order, a form with another boundary, or a form instead of JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from fastapi import Request

from overpaint.apps.server.jobs import EditJob, Jobs
from overpaint.apps.server.routes import service_of
from overpaint.core.errors import InvalidRequest

HEADER = "Idempotency-Key"
LONGEST = 200

DOCUMENTED: dict[str, Any] = {
    "in": "header",
    "name": HEADER,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
    "description": "A request that asks for the same under the same key gets the first one's "
    "answer; a caller whose connection broke can come back for it.",
}


@dataclass(frozen=True)
class Claim:
    """What a request's key stands for; without a key nothing is looked up or kept.

    Attributes:
        jobs: the server's.
        caller: whose key it is; nobody else's is the same.
        key: None = the request has none.
        fingerprint: of what is asked for.
    """

    jobs: Jobs[Any]
    caller: str
    key: str | None
    fingerprint: str

    @property
    def has_key(self) -> bool:
        """Whether the answer is kept for a request that comes again."""
        return self.key is not None

    def job(self, part: int = 0) -> EditJob[Any] | None:
        """The job of an earlier request.

        Args:
            part: of a request for several edits, which one.

        Raises:
            Conflict: the key stands for another request.
        """
        if self.key is None:
            return None
        return self.jobs.by_key(self.caller, (self.key, part), self.fingerprint)

    def keep(self, job: EditJob[Any], part: int = 0) -> None:
        """Keep a job for requests that come again."""
        if self.key is not None:
            self.jobs.add(job)
            self.jobs.remember_key(self.caller, (self.key, part), self.fingerprint, job.id)


@asynccontextmanager
async def claimed(request: Request, *content: Any) -> AsyncIterator[Claim]:
    """What the request's key stands for; others with the same key wait until the block ends.

    Args:
        request: with the header or without.
        content: all that decides about the answer: plain data, bytes, dataclasses.

    Raises:
        InvalidRequest: the key is unusable, or this server is one of several.
    """
    service, caller = service_of(request), request.state.caller
    key = request.headers.get(HEADER)
    if key is None:
        yield Claim(service.jobs, caller, None, "")
        return
    if not 1 <= len(key) <= LONGEST:
        raise InvalidRequest(f"give 1 to {LONGEST} characters", field=HEADER)
    if not service.alone:
        raise InvalidRequest(
            "several replicas share this address, and each knows its own edits only; wait for the "
            "answer or stream it, without a key",
            field=HEADER,
        )
    async with service.jobs.turn(caller, key):
        fingerprint = await service.work(fingerprint_of, content)
        yield Claim(service.jobs, caller, key, fingerprint)


def fingerprint_of(content: Any) -> str:
    """A hash of what is asked for; the order of keys does not count."""
    plain = json.dumps(content, sort_keys=True, default=_plain)
    return hashlib.sha256(plain.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a {type(value).__name__} is not plain data")

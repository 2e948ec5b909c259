"""The page at `/`: files of this package, and what a browser may do with them.

The page needs no key, because it asks for one: it holds nothing of anybody. Its contents come from
`/v1`, where keys count.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from overpaint.apps.server.errors import NotFound

PREFIX = "/page/"
INDEX = "index.html"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""No script or style but our own files, and no other machine, whatever a prompt or a file says."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    # Asked for again each time, answered by 304: a new version is never mixed with an old one.
    "cache-control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    type: str
    etag: str

    @cached_property
    def packed(self) -> bytes | None:
        """As gzip; None where that would save nothing."""
        if self.type.startswith("image/") and "svg" not in self.type:
            return None
        return gzip.compress(self.content, mtime=0)


@cache
def assets() -> dict[str, Asset]:
    """The page's files by name."""
    files_by_name = {}
    scene = files("overpaint") / "twins" / "scene" / "scene.png"
    for file in (*(files("overpaint.apps.server") / "page").iterdir(), scene):
        if kind := _TYPES.get(PurePath(file.name).suffix):
            content = file.read_bytes()
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
            files_by_name[file.name] = Asset(content, kind, etag)
    return files_by_name


def wants_page(request: Request) -> bool:
    """Whether a browser asks, which names HTML, and not a probe or a client of a service."""
    return "text/html" in request.headers.get("accept", "")


@router.api_route("/", methods=["GET", "HEAD"])
def home(request: Request) -> Response:
    """The page, for browsers; for probes and clients of Azure's contract, that it is well."""
    if not wants_page(request):
        return PlainTextResponse("Healthy", headers={"vary": "accept"})
    return _serve(INDEX, request)


@router.api_route(PREFIX + "{name}", methods=["GET", "HEAD"])
def asset(name: str, request: Request) -> Response:
    """A file of the page."""
    return _serve(name, request)


def _serve(name: str, request: Request) -> Response:
    file = assets().get(name)
    if file is None:
        raise NotFound("there is no such file")
    headers = {**_HEADERS, "etag": file.etag, "vary": "accept, accept-encoding"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["content-encoding"] = file.packed, "gzip"
    return Response(content, media_type=file.type, headers=headers)

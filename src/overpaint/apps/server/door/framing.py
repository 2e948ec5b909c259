"""How a request's body is framed and encoded: what two readers may understand differently is
refused."""

from __future__ import annotations

from starlette.datastructures import Headers

from overpaint.apps.server.errors import UnsupportedMediaType
from overpaint.core.errors import InvalidRequest

PLAIN = ("", "identity")


def check(headers: Headers) -> None:
    """Refuse bodies of two lengths, and compressed ones.

    Raises:
        InvalidRequest: `Content-Length` beside `Transfer-Encoding`: a proxy may read one, this
            server the other (RFC 9112, 6.1).
        UnsupportedMediaType: the body is compressed, so that its size is not known.
    """
    if "transfer-encoding" in headers and "content-length" in headers:
        raise InvalidRequest(
            "send Content-Length or Transfer-Encoding, not both", field="Content-Length"
        )
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in PLAIN:
        raise UnsupportedMediaType(
            f"bodies with Content-Encoding {coding[:40]} are not read; send the body as it is"
        )

"""Multipart forms as RFC 7578 has them, and nothing guessed where a form is not one."""

from __future__ import annotations

import re

from starlette.formparsers import MultiPartException, MultiPartParser

from overpaint.core.errors import InvalidRequest

_EXTENDED_NAME = re.compile(rb";\s*filename\*=", re.IGNORECASE)
_PLAIN_NAME = re.compile(rb";\s*filename=", re.IGNORECASE)


class StrictParser(MultiPartParser):
    """Reads `filename*` as a file's name; refuses texts that are not UTF-8 and cut bodies."""

    _is_complete = False

    def on_header_end(self) -> None:
        """A part's header has ended: some clients send a file's name as `filename*` alone."""
        value = self._current_partial_header_value
        if not _PLAIN_NAME.search(value):
            self._current_partial_header_value = _EXTENDED_NAME.sub(b"; filename=", value)
        super().on_header_end()

    def on_headers_finished(self) -> None:
        """A part's headers have ended; its name is read as UTF-8."""
        if self._charset != "utf-8":
            raise MultiPartException("The form's charset is not UTF-8.")
        super().on_headers_finished()

    def on_part_end(self) -> None:
        """A part has ended.

        Raises:
            InvalidRequest: it is a text that is not UTF-8.
        """
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidRequest(
                    "the text is not UTF-8; a file needs a file name", field=part.field_name[:100]
                ) from error
        super().on_part_end()

    def on_end(self) -> None:
        """The last boundary was read."""
        self._is_complete = True

    def close(self) -> None:
        """Let go of the files, of parts that never ended as well."""
        for file in self._files_to_close_on_error:
            file.close()

    def require_end(self) -> None:
        """Refuse a body that was cut off: its last part is lost.

        Raises:
            InvalidRequest.
        """
        if not self._is_complete:
            raise InvalidRequest(
                "the multipart body ends before its last boundary; send it whole", field="body"
            )

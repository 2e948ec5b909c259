"""The parameters of OpenAI's chat completions that a server takes, learned from its refusals.

Newer models of OpenAI refuse `max_tokens`, `temperature` and `seed`; others know no schema, or no
form of answers at all. Each finding holds for all later requests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

LONGEST_ANSWER = 4000
"""Tokens of an answer."""

_FORMS = ("json_schema", "json_object", "text")
_WORDS_OF_FORMS = ("response_format", "json_schema", "json_object", "schema", "grammar", "guided")


@dataclass(frozen=True)
class Dialect:
    """The parameters that go along with a request.

    Attributes:
        length: name of the limit of an answer's tokens; None = it goes without.
        has_temperature, has_seed: whether these go along.
        form: 'json_schema', 'json_object' or 'text': how the answer's form is asked for.
    """

    length: str | None = "max_tokens"
    has_temperature: bool = True
    has_seed: bool = True
    form: str = "json_schema"

    def parameters(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a request, beside model and messages."""
        values: dict[str, Any] = {}
        if self.length is not None:
            values[self.length] = LONGEST_ANSWER
        if self.has_temperature:
            values["temperature"] = 0
        if self.has_seed:
            values["seed"] = 0
        if self.form == "json_schema":
            form = {"name": name, "strict": True, "schema": schema}
            values["response_format"] = {"type": "json_schema", "json_schema": form}
        elif self.form == "json_object":
            values["response_format"] = {"type": "json_object"}
        return values

    def after_refusal(self, message: str) -> Dialect | None:
        """What to try next; None = the refusal names nothing that goes along, or nothing is left.

        Args:
            message: of the server.
        """
        text = message.casefold()
        if "max_tokens" in text and self.length == "max_tokens":
            return replace(self, length="max_completion_tokens")
        if "max_completion_tokens" in text and self.length is not None:
            return replace(self, length=None)
        if "temperature" in text and self.has_temperature:
            return replace(self, has_temperature=False)
        if "seed" in text and self.has_seed:
            return replace(self, has_seed=False)
        if any(word in text for word in _WORDS_OF_FORMS):
            return self._simpler_form()
        return None

    def simpler(self) -> Dialect | None:
        """Less, where a refusal does not say what it is about; None = nothing is left."""
        simpler_form = self._simpler_form()
        if simpler_form is not None:
            return simpler_form
        if self.has_seed or self.has_temperature:
            return replace(self, has_seed=False, has_temperature=False)
        if self.length == "max_tokens":
            return replace(self, length="max_completion_tokens")
        return None if self.length is None else replace(self, length=None)

    def _simpler_form(self) -> Dialect | None:
        number = _FORMS.index(self.form)
        return replace(self, form=_FORMS[number + 1]) if number + 1 < len(_FORMS) else None

"""YAML as people mean it: plain words are text where the recipe wants text.

YAML 1.1 turns `no`, `on`, `2024-01-01`, `12:30` and `007` into booleans, dates and numbers. Here,
as in YAML 1.2, only `true` and `false` are booleans and all of these stay text; a key that is there
twice is an error.
"""

from __future__ import annotations

import re
from typing import Any

import yaml


class RecipeLoader(yaml.SafeLoader):
    """YAML's safe loader with fewer guesses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different.

        Raises:
            yaml.constructor.ConstructorError: a key is there twice.
        """
        start_marks: dict[Any, yaml.Mark] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if name in start_marks:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{name}' is there twice", key.start_mark
                )
            start_marks[name] = key.start_mark
        return super().construct_mapping(node, deep=deep)


_CORE = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)",
        "-+.0123456789",
    ),
}
"""What YAML 1.2 takes for truths and numbers, and the letters with which they start."""

RecipeLoader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0].rpartition(":")[2] not in (*_CORE, "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _first) in _CORE.items():
    RecipeLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def load(document: str) -> Any:
    """The plain data of a YAML document.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(document, RecipeLoader)  # noqa: S506 - a safe loader

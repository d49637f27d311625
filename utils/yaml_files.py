"""YAML as its version 1.2 says, and stricter: of whole numbers only ``0`` and ``-?[1-9][0-9]*`` are numbers."""

import re
from pathlib import Path
from typing import Any

import yaml

from utils.errors import UserError, in_one_line, short

YAML_1_2 = {  # the core schema, but that +1, 007, 0x10 and 0o17 are text, as folders may be named so
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"0|-?[1-9][0-9]*",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2. PyYAML alone reads 1.1, where ``no`` is false, ``1:30`` is 90, ``010`` is 8, ``1e-5`` is text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's way)

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        # JSON writes a letter beyond the basic plane as two escapes.
        return text.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(text, str) else text

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                problem = f"expected each key once, got {short(key.value)} twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""


for _name, _pattern in YAML_1_2.items():
    for _kind in (_Loader, _Dumper):  # None: whatever the first letter is
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), None)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's keys and values. Raises UserError."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or half a letter
        raise UserError(f"{path}: expected a YAML file that can be read ({in_one_line(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values, got {short(values)}")
    return values


def read_value(text: str) -> Any:
    """A single value as it would stand in a file: ``1e-5`` is a number, ``false`` is false, ``conv`` is text."""
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))


def to_yaml(values: dict[str, Any]) -> str:
    """The content of a file that gives the same values back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)

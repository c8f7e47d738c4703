"""What is wrong with a setting: one line per mistake, with key, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Characters of a wrong value that are quoted.
MOST_WORDS = 80


def complaints(error: ValidationError, name: str, schema: Mapping[str, Any]) -> list[str]:
    """One sentence per wrong key; the branches of a union complain once."""
    lines: dict[str, str] = {}
    for detail in error.errors():
        keys, node = _walk(schema, detail["loc"])
        where = ".".join(keys)
        lines.setdefault(where, f"{name}: {_complaint(where, detail, node)}".replace(": ``:", ":"))
    return list(lines.values())


def _complaint(where: str, detail: ErrorDetails, node: Mapping[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key `{where}`. {_nearest(str(detail['loc'][-1]), node)}"
    if detail["type"] == "missing":
        return f"`{where}` is missing. {node.get('description', '')}".rstrip()
    if detail["type"] == "literal_error":
        words = {"properties": dict.fromkeys(_literals(detail))}
        value = f"`{where}` is {_cut(detail['input'])}"
        what = f"unknown key `{where}`" if "[key]" in detail["loc"] else value
        return f"{what}. {_nearest(str(detail['input']), words)}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "give a value")
    if detail["type"] == "value_error":
        return f"`{where}`: {message}" + ("" if message.endswith("?") else ".")
    about = " ".join(node.get("description", "").split())
    return f"`{where}` is {_cut(detail['input'])}: {message}. {about}".rstrip()


def _cut(value: Any) -> str:
    """A value in words, not more than a line of it."""
    text = repr(value)
    return text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + "..."


def _nearest(wrong: str, node: Mapping[str, Any]) -> str:
    keys = list(node.get("properties", {}))
    close = difflib.get_close_matches(wrong, keys, n=1, cutoff=0.5)
    remedy = f"Did you mean `{close[0]}`? " if close else ""
    return f"{remedy}Known here: {', '.join(keys)}."


def _literals(detail: ErrorDetails) -> list[str]:
    expected = detail.get("ctx", {}).get("expected", "")
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]


def _walk(
    schema: Mapping[str, Any], loc: tuple[int | str, ...]
) -> tuple[list[str], Mapping[str, Any]]:
    """The keys of a location without pydantic's own words, and the schema node there.

    For an unknown key the node is that of the setting it stands in, which lists the others.
    """
    keys: list[str] = []
    node = _resolve(schema, schema)
    for part in loc:
        children = node.get("properties", {})
        if part == "[key]":
            return keys, node
        if part in children:
            node = _described(children[str(part)], schema)
        elif isinstance(node.get("additionalProperties"), Mapping):
            node = _described(node["additionalProperties"], schema)
        elif isinstance(part, int) and ("items" in node or "prefixItems" in node):
            node = _described(node.get("items") or node["prefixItems"][part], schema)
        elif part is not loc[-1] or not children:
            # A word of pydantic's for the branch of a union.
            continue
        keys.append(str(part))
    return keys, node


def _described(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node behind references, under the description of the key that refers to it."""
    resolved = dict(_resolve(node, schema))
    if "description" in node:
        resolved["description"] = node["description"]
    return resolved


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow `$ref`, and in a union take the branch that has keys."""
    if "$ref" in node:
        return _resolve(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    for branch in node.get("anyOf", ()):
        if "$ref" in branch or "items" in branch or "prefixItems" in branch:
            return _resolve(branch, schema)
    return node

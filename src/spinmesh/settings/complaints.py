"""What is wrong with a setting: one line per mistake, with key, value and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
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
    wrong, about = detail["input"], " ".join(node.get("description", "").split())
    if detail["type"] == "extra_forbidden":
        return f"unknown key `{where}`. {_nearest(detail['loc'][-1], node.get('properties', ()))}"
    if detail["type"] == "missing":
        return f"`{where}` is missing. {about}".rstrip()
    if detail["type"] == "literal_error":
        words = re.findall("'(.*?)'", detail["ctx"]["expected"])
        value = f"`{where}` is {_cut(wrong)}"
        what = f"unknown key `{where}`" if "[key]" in detail["loc"] else value
        return f"{what}. {_nearest(wrong, words)}"
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "give a value")
    if detail["type"] == "value_error":
        return f"`{where}`: {message}" + ("" if message.endswith("?") else ".")
    return f"`{where}` is {_cut(wrong)}: {message}. {about}".rstrip()


def _cut(value: Any) -> str:
    """A value in words, not more than a line of it."""
    text = repr(value)
    return text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + "..."


def _nearest(wrong: Any, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(wrong), words, n=1, cutoff=0.5)
    remedy = f"Did you mean `{close[0]}`? " if close else ""
    return f"{remedy}Known here: {', '.join(words)}."


def _walk(
    schema: Mapping[str, Any], loc: tuple[int | str, ...]
) -> tuple[list[str], Mapping[str, Any]]:
    """The keys of a location without pydantic's own words, and the schema node there.

    For an unknown key the node is that of the setting it stands in, which lists the others.
    """
    keys: list[str] = []
    node = _resolve(schema, schema)
    for part in loc[:-1] if loc[-1:] == ("[key]",) else loc:
        if isinstance(part, int) and ("items" in node or "prefixItems" in node):
            below = node.get("items") or node["prefixItems"][part]
        else:
            below = node.get("properties", {}).get(part) or node.get("additionalProperties")
        if below:
            node = _resolve(below, schema)
        elif "properties" not in node:
            # A word of pydantic's for the branch of a union.
            continue
        keys.append(str(part))
    return keys, node


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node behind references, in a union the branch that has keys, as `node` describes it."""
    inside = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else None
    for branch in node.get("anyOf", ()):
        if branch.keys() & {"$ref", "items", "prefixItems"}:
            inside = branch
    about = {"description": node["description"]} if "description" in node else {}
    return node if inside is None else {**_resolve(inside, schema), **about}

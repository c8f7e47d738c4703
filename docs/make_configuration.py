"""Write the JSON schema and the tables of docs/configuration.md: `make schema`.

Every key with its unit, values, default and meaning, from src/spinmesh/settings/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spinmesh.settings.loading import PRESETS, Config, schema_text
from spinmesh.settings.mesh import SHAPE_PARAMETERS
from spinmesh.settings.setting import Setting

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow/schemas/config.schema.json"
PAGE = ROOT / "docs/configuration.md"
MARK = "<!-- Below: written by `make schema` from src/spinmesh/settings/. -->\n"
# Endings of keys, and the units they stand for.
UNITS = {
    "_um2_per_ms": "um^2/ms",
    "_um_per_ms": "um/ms",
    "_mt_per_m": "mT/m",
    "_s_per_mm2": "s/mm^2",
    "_um": "um",
    "_mm": "mm",
    "_ms": "ms",
    "_rad": "rad",
    "_deg": "degree",
}
HEAD = "| key | unit | values | default | meaning |\n| --- | --- | --- | --- | --- |\n"


def renewed(page: str) -> str:
    """The page with its part below `MARK` written anew."""
    tables = [*_sections("", Config, {}), _shape_parameters()]
    return page.partition(MARK)[0] + MARK + "\n" + "\n".join(tables)


def _sections(path: str, setting: type[Setting], places: dict[type, str]) -> Iterator[str]:
    """The table of a setting, then those of the settings in it; `places` has each class once."""
    about = " ".join((setting.__doc__ or "").split())
    schema = setting.model_json_schema()
    rows, inner = [], []
    for key, field in setting.model_fields.items():
        node = schema["properties"][key]
        nested = _setting_in(field.annotation)
        where = f"{path}.{key}".removeprefix(".")
        if nested is None:
            values = _values(node, schema)
        elif nested in places:
            values = f"as `{places[nested]}`"
        else:
            inner.append((where, nested))
            places[nested] = where
            values = "below"
        default = "" if values == "below" and field.default else _default(where, field)
        meaning = " ".join((field.description or "").split())
        cells = (f"`{key}`", _unit(key), values, default, meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    yield f"## {path or 'At the top'}\n\n{about}\n\n{HEAD}{''.join(rows)}"
    for where, nested in inner:
        yield from _sections(where, nested, places)


def _shape_parameters() -> str:
    rows = [
        f"| `{key}` | {_unit(key)} | {p.low} | {p.high} | {p.neutral} | {p.meaning} |\n"
        for key, p in SHAPE_PARAMETERS.items()
    ]
    return (
        "## Parameters of a shape\n\nFor `mesh.ranges` and `mesh.target.shape`; those left out are "
        "neutral, or as in the template.\n\n| key | unit | least | most | neutral | meaning |\n"
        f"| --- | --- | --- | --- | --- | --- |\n{''.join(rows).replace('None', '')}"
    )


def _setting_in(annotation: Any) -> type[Setting] | None:
    """The setting that an annotation holds, by itself, in a list, in a map or beside null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation  # type: ignore[return-value]
    inside = map(_setting_in, getattr(annotation, "__args__", ()))
    return next((setting for setting in inside if setting is not None), None)


def _unit(key: str) -> str:
    return next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")


def _default(where: str, field: Any) -> str:
    if field.is_required():
        return "none: give it"
    default = _short(field.get_default(call_default_factory=True))
    others = {name: _at(preset, where) for name, preset in PRESETS.items()}
    return default + "".join(f"; {n}: {_short(v)}" for n, v in others.items() if v is not None)


def _at(preset: Any, where: str) -> Any:
    for key in where.split("."):
        preset = preset.get(key) if isinstance(preset, Mapping) else None
    return preset


def _short(value: Any) -> str:
    if isinstance(value, Setting):
        value = value.model_dump(exclude_defaults=True)
    return json.dumps(value).replace('"', "").replace("Infinity", ".inf")


def _values(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a key may be, from its node of the JSON schema."""
    if "anyOf" in node:
        return " or ".join(_values(branch, schema) for branch in node["anyOf"])
    if len(node.get("enum", ())) == len(SHAPE_PARAMETERS):
        return "parameter of a shape"
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    if "prefixItems" in node:
        return f"[{', '.join(_values(item, schema) for item in node['prefixItems'])}]"
    if "items" in node:
        return f"list of: {_values(node['items'], schema)}"
    if "additionalProperties" in node:
        keys = _values(node.get("propertyNames", {"type": "key"}), schema)
        return f"{{{keys}}}: {_values(node['additionalProperties'], schema)}"
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {node[word]:g}" for word, sign in words.items() if word in node]
    return " ".join([node.get("type", "").replace("string", "text"), *bounds])


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    PAGE.write_text(renewed(PAGE.read_text()))

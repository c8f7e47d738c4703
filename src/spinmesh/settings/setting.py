"""The base class of every setting; of a wrong one it says key, value and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from spinmesh.errors import ConfigError

# Not `Self`: the run-time checker of the tests sees functions without their class.
SameSetting = TypeVar("SameSetting", bound="Setting")

# YAML's aliases can make a billion values of ten lines.
MOST_VALUES = 100_000
# Characters of a wrong value that are quoted.
MOST_WORDS = 80


class Setting(BaseModel):
    """Values that cannot change and are checked when they are given; unknown keys are refused.

    Built from Python (`Basis(tolerance=2)`), a wrong value raises ConfigError with its key, value
    and remedy. Inside another setting it is pydantic that checks, so that the key's full path is
    known there.
    """

    # An infinite number comes back from the JSON text of a store.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
        defer_build=True,  # a command uses few of them
    )

    FILE_KEYS: ClassVar[tuple[str, ...]] = ()
    """Keys whose values, if they are words, are names of input files."""

    def __init__(self, **values: Any) -> None:
        with self._readable(type(self).__name__):
            super().__init__(**values)

    # Pydantic's mark for "this is how I would have done it": nested settings do not call it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def checked(cls: type[SameSetting], values: Any, name: str) -> SameSetting:
        """From plain values; `name`, of their file, begins every complaint in a ConfigError."""
        pending, count = [values], 0
        while pending:
            node, count = pending.pop(), count + 1
            if count > MOST_VALUES:
                raise ConfigError(f"{name}: its aliases make more than {MOST_VALUES:,} values.")
            if isinstance(node, dict | list):
                pending += node.values() if isinstance(node, dict) else node
        with cls._readable(name):
            return cls.model_validate(values)

    @classmethod
    @contextmanager
    def _readable(cls, name: str) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            lines = _complaints(error, name, cls.model_json_schema())
            raise ConfigError("\n".join(lines)) from error

    def files(self) -> dict[str, str]:
        """The input files it names, keyed by where it names them."""
        named: dict[str, str] = {}
        for key, value in self:
            if isinstance(value, Setting):
                named |= {f"{key}.{inner}": path for inner, path in value.files().items()}
            elif isinstance(value, tuple):
                for number, each in enumerate(value):
                    if isinstance(each, Setting):
                        inside = each.files().items()
                        named |= {f"{key}.{number}.{inner}": path for inner, path in inside}
                    elif key in self.FILE_KEYS:
                        named[f"{key}.{number}"] = each
            elif isinstance(value, str) and key in self.FILE_KEYS:
                named[key] = value
        return named

    def replace(self: SameSetting, **changes: Any) -> SameSetting:
        """The same setting with other values, checked again."""
        return type(self)(**(dict(self) | changes))


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"low {pair[0]} exceeds high {pair[1]}; write [low, high]")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def _complaints(error: ValidationError, name: str, schema: Mapping[str, Any]) -> list[str]:
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


class TrainingSetting(Setting):
    """What trains a network, and where."""

    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the network is trained. cuda: the job asks for a GPU; auto: where it happens to have
    one."""
    gpus: PositiveInt = 1
    """Of one machine, which share the training; more than one with `device: cuda`."""

    @model_validator(mode="after")
    def _gpus_are_asked_for(self) -> TrainingSetting:
        if self.gpus > 1 and self.device != "cuda":
            raise ValueError(f"gpus {self.gpus} on device {self.device}; give `device: cuda`")
        return self

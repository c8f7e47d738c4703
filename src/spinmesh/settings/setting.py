"""The base class of every setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from spinmesh.errors import ConfigError
from spinmesh.settings.complaints import complaints

# Not `Self`: the run-time checker of the tests sees functions without their class.
SameSetting = TypeVar("SameSetting", bound="Setting")

# YAML's aliases can make a billion values of ten lines.
MOST_VALUES = 100_000


class Setting(BaseModel):
    """Values that cannot change and are checked when they are given; unknown keys are refused.

    Built from Python (`Basis(tolerance=2)`), a wrong value raises ConfigError with its key, value
    and remedy. Inside another setting it is pydantic that checks, so that the key's full path is
    known there.
    """

    # An infinite number comes back from the JSON text of a store.
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="constants"
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
            lines = complaints(error, name, cls.model_json_schema())
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

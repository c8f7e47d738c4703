"""The base class of every setting."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from spinmesh.errors import ConfigError
from spinmesh.settings.complaints import complaints

# Not `Self`: the run-time checker of the tests sees functions without their class.
SameSetting = TypeVar("SameSetting", bound="Setting")


class Setting(BaseModel):
    """Values that cannot change and are checked when they are given; unknown keys are refused.

    Built from Python (`Basis(tolerance=2)`), a wrong value raises ConfigError with its key, value
    and remedy. Inside another setting it is pydantic that checks, so that the key's full path is
    known there.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="constants"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            name = type(self).__name__
            raise ConfigError(
                "\n".join(complaints(error, name, type(self).model_json_schema()))
            ) from error

    # Pydantic's mark for "this is how I would have done it": nested settings do not call it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def plain(self) -> dict[str, Any]:
        """Every value, defaults included, as dicts, lists, numbers and words."""
        return self.model_dump(mode="json")

    def replace(self: SameSetting, **changes: Any) -> SameSetting:
        """The same setting with other values, checked again."""
        return type(self)(**(dict(self) | changes))

"""What a noun says once about its store: schema, version and stage, and the unit of each field.

Axes are in the annotations already: `Float[Tensor, "substrate measurement"]`. The Zarr store
follows from both (`spinmesh.io.codec`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spinmesh.errors import StoreError

Noun = TypeVar("Noun")
# Targets of the Makefile by the stages that they run.
TARGETS = dict.fromkeys(("mesh", "simulate", "reconstruct", "synthesise"), "run")
TARGETS |= {
    name: name for name in ("phantom", "paper", "synthesis", "conditional", "respiratory", "maps")
}


@dataclass(frozen=True)
class Schema:
    """Name and version of a store's layout, and the stage to rerun where it has moved on."""

    name: str
    version: int
    stage: str

    @property
    def maker(self) -> str:
        """The stage in words, with the make target that runs it."""
        target = TARGETS.get(self.stage)
        return f"stage `{self.stage}`" + (f" (make {target})" if target else "")


def store(name: str, version: int, stage: str) -> Callable[[type[Noun]], type[Noun]]:
    """Make a dataclass storable; raise `version` when its fields change."""

    def mark(noun: type[Noun]) -> type[Noun]:
        noun.__store__ = Schema(name, version, stage)  # type: ignore[attr-defined]
        return noun

    return mark


def schema_of(noun: type) -> Schema:
    """What `store` declared for a class or one it inherits from; StoreError without."""
    schema: Schema | None = getattr(noun, "__store__", None)
    if schema is None:
        raise StoreError(f"{noun.__name__} has no store of its own.")
    return schema


def quantity(
    units: str = "1", *, axis: str | None = None, finite: bool = False, **default: Any
) -> Any:
    """A field of a noun with its unit, by default 1.

    `axis` names the axis of a tuple of words, which is stored as an array of codes. With `finite`
    NaN and infinity are not written. `default` is passed to `dataclasses.field`.
    """
    return field(metadata={"units": units, "axis": axis, "finite": finite}, **default)

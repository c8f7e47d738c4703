"""What an estimator learns from and is judged on, and splits that never part a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spinmesh.errors import ConfigError
from spinmesh.stored import quantity, store

# Seeds of scikit-learn are below it.
MOST_SEED = 2**32


@dataclass(frozen=True)
class Names:
    """Names of the columns of a table and a target with their units, and of the classes."""

    features: tuple[str, ...] = ()
    feature_units: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    quantity_units: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@store("spinmesh/examples", version=1, stage="examples")
@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs in up to three forms, with what is to be told from them.

    `group` is the patient or the substrate an example comes from; `label` counts `names.classes`.
    Raises ConfigError if lengths, names or numbers do not fit.
    """

    group: Int[Tensor, " example"] = quantity()
    names: Names = Names()
    label: Int[Tensor, " example"] | None = quantity(default=None)
    target: Float[Tensor, "example quantity"] | None = quantity("as named", default=None)
    table: Float[Tensor, "example feature"] | None = quantity("as named", default=None)
    image: Float[Tensor, "example channel height width"] | None = quantity(default=None)
    sequence: Float[Tensor, "example step input"] | None = quantity(default=None)

    def __post_init__(self) -> None:
        for name, array in self._arrays().items():
            if len(array) != len(self.group):
                raise ConfigError(
                    f"examples: {len(array)} of `{name}`, but {len(self.group)} of `group`."
                )
            if not bool(torch.isfinite(array).all()):
                row = int((~torch.isfinite(array)).flatten(1).any(1).nonzero()[0])
                raise ConfigError(
                    f"examples: `{name}` of example {row} is not finite. Leave it out."
                )
        for columns, units, columned in (
            (self.names.features, self.names.feature_units, self.table),
            (self.names.quantities, self.names.quantity_units, self.target),
        ):
            width = 0 if columned is None else columned.shape[1]
            if len(columns) != width or len(units) != width:
                raise ConfigError(
                    f"examples: {width} columns, but the names {columns} with the units {units}."
                )
        classes = len(self.names.classes)
        if self.label is not None and not bool(((self.label >= 0) & (self.label < classes)).all()):
            raise ConfigError(f"examples: labels outside 0 to {classes - 1}; name every class.")

    def _arrays(self) -> dict[str, Tensor]:
        return {
            item.name: value
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(
        self, which: slice | Int[Tensor, " part"] | Bool[Tensor, " example"]
    ) -> Examples:
        """Some of them: by a slice, by their numbers, or where `which` is true."""
        part: dict[str, Any] = {name: array[which] for name, array in self._arrays().items()}
        return replace(self, **part)

    def folds(self, count: int, seed: int) -> Iterator[tuple[Examples, Examples]]:
        """`count` pairs (rest, part): every group is in one part, classes spread evenly.

        Raises ConfigError if there are fewer groups than folds, or a class stands in one group
        alone, which could not be both learnt and judged.
        """
        groups = len(self.group.unique())
        if groups < count:
            raise ConfigError(
                f"examples: {groups} groups do not make {count} folds. Give data of more patients "
                "or substrates."
            )
        for label in [] if self.label is None else self.label.unique().tolist():
            if len(self.group[self.label == label].unique()) < 2:
                raise ConfigError(
                    f"examples: class {self.names.classes[label]!r} has one group only: it cannot "
                    "be learnt and judged. Add others, or leave the class out."
                )
        from sklearn.model_selection import GroupKFold, StratifiedGroupKFold  # a second

        kind = GroupKFold if self.label is None else StratifiedGroupKFold
        folds = kind(count, shuffle=True, random_state=seed % MOST_SEED)
        labels = None if self.label is None else self.label.numpy()
        pairs = folds.split(np.zeros(len(self)), labels, self.group.numpy())
        return ((self[torch.from_numpy(a)], self[torch.from_numpy(b)]) for a, b in pairs)

    def held_out(self, fraction: float, seed: int) -> tuple[Examples, Examples]:
        """(rest, part) with about `fraction` of the groups in the part: the first of 1 / fraction
        `folds`."""
        return next(self.folds(max(2, round(1 / fraction)), seed))

    def ungrouped(self) -> Examples:
        """Every example a group of its own: what a split at random would be. It flatters."""
        return replace(self, group=torch.arange(len(self)))

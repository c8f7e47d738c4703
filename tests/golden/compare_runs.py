"""Does a change move a number? `python tests/golden/compare_runs.py OLD NEW`, of two runs.

OLD and NEW are results/<run>/ folders.

Every array of every store of OLD is looked for in the store of the same path in NEW, by its name's
last part or, where names have moved, by its shape; the nearest one counts. Prints those that differ
by more than RELATIVE of their largest value, and ends with 1 if there are any.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import zarr

# Sums in another order differ by rounding; a search may amplify it, so look before raising this.
RELATIVE = 1e-9


def arrays(store: Path) -> dict[str, np.ndarray]:
    """Every array of more than one value."""
    group = zarr.open_group(store, mode="r")
    values = {name: np.asarray(array[...]) for name, array in group.arrays()}
    return {name: x for name, x in values.items() if x.size > 1 and x.dtype.kind in "fciub"}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest value; infinite where NaNs or infinities differ."""
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return np.inf
    scale = np.abs(a[finite]).max(initial=0.0) or 1.0
    return float(np.abs(a[finite].astype(complex) - b[finite]).max(initial=0.0) / scale)


def nearest(name: str, old: np.ndarray, new: dict[str, np.ndarray]) -> tuple[str, float]:
    """The array of the new store that stands for an old one, and how far it is."""
    last = name.rpartition(".")[2]
    alike = {k: v for k, v in new.items() if v.shape == old.shape}
    found = [(difference(old, v), k.rpartition(".")[2] != last, k) for k, v in alike.items()]
    if not found:
        return "no array of this shape", np.inf
    apart, _, where = min(found)
    return where, apart


def compare(old: Path, new: Path) -> int:
    """Print the arrays that moved; how many."""
    moved = seen = 0
    for file in sorted(old.rglob("*.zarr/zarr.json")):
        if any(parent.suffix == ".zarr" for parent in list(file.parents)[1:]):
            continue
        store = file.parent.relative_to(old)
        if not (new / store).exists():
            moved += 1
            print(f"{store}: missing")
            continue
        there = arrays(new / store)
        for name, values in arrays(old / store).items():
            where, apart = nearest(name, values, there)
            seen += 1
            if apart > RELATIVE:
                moved += 1
                print(f"{store}: {name} {values.shape} moved by {apart:.1e} ({where})")
    print(f"{seen} arrays, {moved} moved or missing")
    return moved


if __name__ == "__main__":
    sys.exit(compare(Path(sys.argv[1]), Path(sys.argv[2])) > 0)

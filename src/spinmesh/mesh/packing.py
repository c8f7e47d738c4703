"""Disks packed in a periodic square: the cross-section of a bundle of axons."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import MeshError

# Positions tried at once for a disk, and batches of them before the packing is given up. The first
# batch is small: most disks of a loose packing find room at once.
TRIES = (100, 1000, 4000)
# What is known of a packing, with its unit: the part of the cell inside disks, what the signal at
# strong gradients sees of their radii, (<r^6>/<r^2>)^(1/4) (Burcaw et al. 2015), and their surface
# per volume of the cell.
STATISTICS = {"volume_fraction": "1", "effective_radius": "um", "surface_to_volume": "1/um"}
# Overlapping disks are moved apart in so many rounds, each by this part of what they lack: in a
# chain of three the whole would overshoot.
ROUNDS, RELAXATION = 300, 0.5
# A dense packing starts loose, with this part of the cell inside disks, which then grow in so many
# stages; 75 % of unequal disks are reached in most attempts, 80 % in a few.
LOOSE, STAGES, ATTEMPTS = 0.35, 4, 20


@dataclass(frozen=True, eq=False)
class Disks:
    """Disks in a periodic square of side `cell` (um). They may overlap until `refuse_overlap`."""

    centres: Float[ndarray, "disk 2"]  # um
    radii: Float[ndarray, " disk"]  # um
    cell: float  # um

    def __post_init__(self) -> None:
        if len(self.centres) != len(self.radii) or not (self.radii > 0).all():
            raise MeshError(f"disks: {len(self.centres)} centres for radii {self.radii}, all > 0.")

    def refuse_overlap(self) -> None:
        """MeshError if two disks overlap, or one its own image."""
        gap = self.distances() - self.radii - self.radii[:, None]
        np.fill_diagonal(gap, self.cell - 2 * self.radii)
        if gap.min(initial=np.inf) <= 0:
            raise MeshError(
                f"disks: two overlap by {-gap.min():.3g} um in a cell of {self.cell:g} um. Move "
                "them apart or enlarge the cell."
            )

    def offsets(self, points: Float[ndarray, "point 2"]) -> Float[ndarray, "point disk 2"]:
        """From every centre to every point, by the shortest way around the cell (um)."""
        apart = points[:, None] - self.centres
        return np.asarray(apart - self.cell * np.round(apart / self.cell))

    def distances(self) -> Float[ndarray, "disk disk"]:
        """Between all centres, by the shortest way around the cell (um)."""
        apart = self.offsets(self.centres)
        return np.asarray(np.hypot(apart[..., 0], apart[..., 1]))

    def moved_apart(self, gap: float) -> Disks:
        """The same disks moved until all are `gap` (um) apart; MeshError if they have no room."""
        disks = self
        for _ in range(ROUNDS):
            distance = disks.distances()
            np.fill_diagonal(distance, np.inf)
            lack = np.maximum(0, disks.radii + disks.radii[:, None] + gap - distance)
            if lack.max(initial=0) < 0.1 * gap:
                return Disks(disks.centres % self.cell, self.radii, self.cell)
            push = RELAXATION * lack / np.maximum(distance, 1e-9)
            moves = (push[..., None] * disks.offsets(disks.centres)).sum(1)
            disks = Disks(disks.centres + moves, self.radii, self.cell)
        raise MeshError(
            f"disks: {len(self.radii)} that cover {self.volume_fraction:.0%} of a cell of "
            f"{self.cell:.3g} um lack up to {lack.max():.2g} um to be {gap:g} um apart. Lower the "
            "fraction or the gap."
        )

    @property
    def volume_fraction(self) -> float:
        """Part of the cell inside disks."""
        return float(np.pi * (self.radii**2).sum() / self.cell**2)

    @property
    def statistics(self) -> list[float]:
        """`STATISTICS` in their units."""
        radius = ((self.radii**6).mean() / (self.radii**2).mean()) ** 0.25
        surface = 2 * np.pi * self.radii.sum() / self.cell**2
        return [self.volume_fraction, float(radius), float(surface)]


def gamma_radii(
    mean: float, variation: float, largest: float, area: float, rng: np.random.Generator
) -> Float[ndarray, " disk"]:
    """Gamma-distributed radii (um) until their disks cover `area` (um^2).

    `variation` is the standard deviation over the mean (Assaf et al. 2008 fit gamma laws to axons);
    a radius above `largest` is drawn again. The last disk is shrunk to meet the area exactly, or
    left out if less than a tenth of it fits.
    """
    if not mean < largest:
        raise MeshError(f"radii: a mean of {mean} um, not below the largest, {largest} um.")
    shape, radii, remaining = 1 / variation**2, [], area
    while remaining > 0:
        radius = largest + 1
        while radius > largest:
            radius = float(rng.gamma(shape, mean / shape))
        remaining -= np.pi * radius**2
        radii.append(radius)
    last = np.pi * radii.pop() ** 2
    fitting = last + remaining
    if fitting > 0.1 * last or not radii:
        radii.append(float(np.sqrt(fitting / np.pi)))
    return np.array(radii)


def pack_disks(
    radii: Float[ndarray, " disk"], cell: float, gap: float, rng: np.random.Generator
) -> Disks | None:
    """Random sequential addition, largest first, at least `gap` (um) apart; None where it jams."""
    radii = np.sort(radii)[::-1]
    if len(radii) and 2 * radii[0] + gap > cell:
        return None
    centres = np.zeros((len(radii), 2))
    for number, radius in enumerate(radii):
        placed = Disks(centres[:number], radii[:number], cell)
        position = _free_position(placed, radius + gap, rng)
        if position is None:
            return None
        centres[number] = position
    return Disks(centres, radii, cell)


def pack_densely(
    radii: Float[ndarray, " disk"], fraction: float, gap: float, rng: np.random.Generator
) -> Disks:
    """Disks that cover `fraction` of their cell, some `gap` (um) apart (nine tenths at least).

    Shrunken disks are placed at random, then grow and push each other apart (after Lubachevsky &
    Stillinger 1990, without velocities). Raises MeshError if no attempt finds room.
    """
    radii = np.sort(radii)[::-1]
    cell = float(np.sqrt(np.pi * (radii**2).sum() / fraction))
    stages = np.linspace(min(1.0, np.sqrt(LOOSE / fraction)), 1, STAGES)
    for _ in range(ATTEMPTS if 2 * radii[0] + gap < cell else 0):
        disks = pack_disks(stages[0] * radii, cell, 0.0, rng)
        if disks is None:
            continue
        with suppress(MeshError):
            for size in stages:
                disks = Disks(disks.centres, size * radii, cell).moved_apart(size * gap)
            return disks
    raise MeshError(
        f"disks: {len(radii)} of up to {radii[0]:.3g} um found no way to cover {fraction:.0%} of a "
        f"cell of {cell:.3g} um, {gap:g} um apart, in {ATTEMPTS} attempts. Lower the fraction or "
        "the gap, or give more disks or other radii."
    )


def _free_position(disks: Disks, reach: float, rng: np.random.Generator) -> ndarray | None:
    """A position uniform among those `reach` beyond every disk's edge, by rejection."""
    for tries in TRIES:
        points = disks.cell * rng.random((tries, 2))
        square = (disks.offsets(points) ** 2).sum(-1)
        free = (square >= (disks.radii + reach) ** 2).all(1)
        if free.any():
            return np.asarray(points[free.argmax()])
    return None

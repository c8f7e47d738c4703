"""The diffusion-weighted series of a field: reduced substrates, turned by turning the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.analytic import free
from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate, unweighted
from spinmesh.errors import ConfigError
from spinmesh.mesh import Substrates, ball
from spinmesh.noise import add_rician
from spinmesh.phantom.field import Field
from spinmesh.progress import progress
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Voxels whose turned acquisitions are simulated together.
TOGETHER = 32
# Octahedron refinements of a cell's mesh: 3e-5 of S0 at r = 5 um with curved tets.
CELL_REFINEMENTS = 2


@dataclass(frozen=True)
class Material:
    """Proton density relative to free water, and T2 (ms)."""

    density: float
    t2: float

    def __post_init__(self) -> None:
        if not (self.density > 0 and self.t2 > 0):
            raise ConfigError(f"phantom: density {self.density}, t2 {self.t2} ms; both > 0.")

    def unweighted(self, acquisition: Acquisition) -> Float[Tensor, " measurement"]:
        """density exp(-TE/T2) of each measurement."""
        echo = torch.tensor([s.echo_time for s in acquisition.sequences], dtype=torch.float64)
        return self.density * torch.exp(-echo[acquisition.timing] / self.t2)


@dataclass(frozen=True)
class Filling:
    """What bundles, cells and water are made of; diffusivities in um^2/ms, lengths in um.

    A bundle's `axon_fraction` is inside `axons` substrates; around them water is hindered, with the
    diffusivities `along` and `across`. Each axon is tilted by a normal angle of standard deviation
    `dispersion` (rad) in either direction and turned about itself at random, anew in each voxel.
    Cells are spheres that fill `cell_fraction`, the rest is hindered with `across`. `amplitude` is
    the unweighted signal of free water at TE = 0.
    """

    axons: int = 2
    axon_fraction: float = 0.6
    along: float = 1.8
    across: float = 0.7
    dispersion: float = 0.0
    cell_radius: float = 5.0
    cell_fraction: float = 0.6
    intrinsic: float = 2.0
    free_water: float = 3.0
    fibre: Material = Material(0.7, 70.0)
    cells: Material = Material(0.8, 90.0)
    water: Material = Material(1.0, 1000.0)
    amplitude: float = 1000.0

    def __post_init__(self) -> None:
        positive = (self.along, self.across, self.cell_radius, self.intrinsic, self.free_water)
        if not min(*positive, self.amplitude) > 0 or self.axons < 1 or self.dispersion < 0:
            raise ConfigError(
                f"phantom: {self}. Diffusivities, the cell radius and the amplitude must be > 0, "
                "axons >= 1 and dispersion >= 0."
            )
        if not (0 <= self.axon_fraction <= 1 and 0 <= self.cell_fraction <= 1):
            raise ConfigError(
                f"phantom: axon_fraction {self.axon_fraction}, cell_fraction {self.cell_fraction}; "
                "both lie in [0, 1]."
            )


@dataclass(frozen=True, eq=False)
class Phantom:
    """A magnitude series of a field, with what it was made of; gradients in world axes."""

    acquisition: Acquisition
    field: Field
    noise_free: Float[Tensor, "x y z measurement"]
    series: Float[Tensor, "x y z measurement"]
    sigma: float  # of the noise in each channel, in the series' unit

    def __post_init__(self) -> None:
        if self.series.shape != (*self.field.fractions.shape[:3], len(self.acquisition)):
            raise ConfigError(
                f"phantom: series of shape {tuple(self.series.shape)} for a field of "
                f"{tuple(self.field.fractions.shape[:3])} voxels and {len(self.acquisition)} "
                "measurements."
            )


def simulate_phantom(
    field: Field,
    substrates: Substrates,
    filling: Filling,
    acquisition: Acquisition,
    basis: Basis,
    snr: float,
    seed: int,
) -> Phantom:
    """The series of a field whose axons are drawn from a table (each bundle its own).

    The gradient is in world axes. In each voxel it is turned instead of the axons, so one reduced
    model serves all orientations. A voxel's signal is the sum of its materials' by volume.
    `snr` is that of the unweighted signal of a voxel full of fibres (inf: no noise).
    """
    if not snr > 0:
        raise ConfigError(f"phantom: snr is {snr}; give a number > 0 (.inf for no noise).")
    rng = torch.Generator().manual_seed(seed)
    bundles = field.direction.shape[-2]
    signal = _isotropic(field, filling, acquisition, basis)
    for bundle in range(bundles):
        chosen = torch.randint(len(substrates), (filling.axons,), generator=rng).tolist()
        axons = [
            reduce_mesh(
                substrates.mesh(i), Tissue.uniform(filling.intrinsic), acquisition, basis
            ).reduced
            for i in chosen
        ]
        part = field.fractions[..., bundle]
        here = part > 0
        if not bool(here.any()):
            continue
        attenuation = _bundle(
            axons, field.direction[..., bundle, :][here], filling, acquisition, rng
        )
        weighted = filling.fibre.unweighted(acquisition) * attenuation
        signal[here] += part[here][:, None] * weighted
    clean = filling.amplitude * signal
    full = filling.amplitude * float(filling.fibre.unweighted(acquisition).max())
    noisy = clean if math.isinf(snr) else full * add_rician(clean / full, snr, rng)
    return Phantom(acquisition, field, clean, noisy, full / snr)


def _isotropic(
    field: Field, filling: Filling, acquisition: Acquisition, basis: Basis
) -> Float[Tensor, "x y z measurement"]:
    """Signal of cells and free water, which no direction changes."""
    mesh = ball(filling.cell_radius, CELL_REFINEMENTS)
    cell = reduce_mesh(mesh, Tissue.uniform(filling.intrinsic), acquisition, basis).reduced
    inside = simulate(cell, acquisition).abs() / unweighted(cell, acquisition)
    around = free(acquisition, filling.across)
    cells = filling.cell_fraction * inside + (1 - filling.cell_fraction) * around
    cells = cells * filling.cells.unweighted(acquisition)
    water = free(acquisition, filling.free_water) * filling.water.unweighted(acquisition)
    return field.fractions[..., -2, None] * cells + field.fractions[..., -1, None] * water


def _bundle(
    axons: list[ReducedModel],
    direction: Float[Tensor, "voxel 3"],
    filling: Filling,
    acquisition: Acquisition,
    rng: torch.Generator,
) -> Float[Tensor, "voxel measurement"]:
    """Attenuation of voxels full of one bundle, the axons weighted by their volumes."""
    parts = []
    tensor = torch.diag(
        torch.tensor([filling.across, filling.across, filling.along], dtype=torch.float64)
    )
    for chunk in progress(list(direction.split(TOGETHER)), "simulating a bundle"):
        rotation = turned_to(chunk)
        inside = torch.zeros(len(chunk), len(acquisition), dtype=torch.complex128)
        volume = torch.zeros(len(acquisition), dtype=torch.float64)
        for axon in axons:
            own = rotation @ _random_turns(len(chunk), filling.dispersion, rng)
            signal = simulate(axon, _in_frames(acquisition, own)).reshape(len(chunk), -1)
            reference = unweighted(axon, acquisition)
            inside, volume = inside + signal, volume + reference
        around = free(_in_frames(acquisition, rotation), tensor).reshape(len(chunk), -1)
        attenuation = (inside / volume).abs()
        parts.append(filling.axon_fraction * attenuation + (1 - filling.axon_fraction) * around)
    return torch.cat(parts)


def _in_frames(acquisition: Acquisition, rotations: Float[Tensor, "voxel 3 3"]) -> Acquisition:
    """The acquisition as seen by bodies turned by each rotation: g -> R' g, one after another."""
    parts = [acquisition.rotated(rotation.T) for rotation in rotations]
    frames = [part.frame for part in parts if part.frame is not None]
    return Acquisition(
        acquisition.sequences,
        acquisition.timing.repeat(len(parts)),
        torch.cat([part.gradient for part in parts]),
        torch.cat(frames) if frames else None,
    )


def turned_to(direction: Float[Tensor, "voxel 3"]) -> Float[Tensor, "voxel 3 3"]:
    """Rotations that take z to each unit vector, or to its opposite: a fibre has no sign."""
    up = torch.where(direction[:, 2:] < 0, -direction, direction)
    x, y, z = up.unbind(1)
    # Shortest turn (Rodrigues); 1 + z >= 1, so it is smooth.
    scale = 1 / (1 + z)
    rows = [1 - x * x * scale, -x * y * scale, x, -x * y * scale, 1 - y * y * scale, y, -x, -y, z]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def _random_turns(
    count: int, dispersion: float, rng: torch.Generator
) -> Float[Tensor, "voxel 3 3"]:
    """Any turn about z, then a tilt by normal angles (rad) about x and y."""
    spin = 2 * math.pi * torch.rand(count, generator=rng, dtype=torch.float64)
    zero, one = torch.zeros_like(spin), torch.ones_like(spin)
    c, s = spin.cos(), spin.sin()
    about = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], 1).reshape(-1, 3, 3)
    tilt = dispersion * torch.randn(count, 2, generator=rng, dtype=torch.float64)
    angle = tilt.norm(dim=1, keepdim=True)
    axis = torch.where(angle > 0, tilt / angle.clamp_min(1e-300), 0.0)
    return turned_to(torch.cat([axis * angle.sin(), angle.cos()], 1)) @ about

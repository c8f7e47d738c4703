"""The diffusion-weighted series of a field: reduced substrates, turned by turning the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from spinmesh.analytic import free
from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate_reduced, unweighted
from spinmesh.mesh import Substrates, TetMesh, ball
from spinmesh.noise import add_rician
from spinmesh.phantom.field import Field
from spinmesh.progress import progress
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition, turned_to
from spinmesh.settings.phantom import Filling, Material
from spinmesh.stored import quantity, store
from spinmesh.tissue import Tissue

# Voxels whose turned acquisitions are simulated together.
TOGETHER = 32
# Octahedron refinements of a cell's mesh: 3e-5 of S0 at r = 5 um with curved tets.
CELL_REFINEMENTS = 2


@store("spinmesh/phantom", version=3, stage="phantom")
@dataclass(frozen=True, eq=False)
class Phantom:
    """A magnitude series of a field, with what it was made of; gradients in world axes.

    `sigma` is that of the noise in each channel, in the series' unit.
    """

    acquisition: Acquisition
    field: Field
    noise_free: Float[Tensor, "x y z measurement"]
    series: Float[Tensor, "x y z measurement"] = quantity(finite=True)
    sigma: float = quantity()


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
    rng = torch.Generator().manual_seed(seed)

    def reduced(mesh: TetMesh) -> ReducedModel:
        tissue = Tissue.uniform(filling.intrinsic_um2_per_ms)
        return reduce_mesh(mesh, tissue, acquisition, basis).reduced

    cell = reduced(ball(filling.cell_radius_um, CELL_REFINEMENTS))
    signal = _isotropic(field, filling, cell, acquisition)
    fibre = _unweighted(filling.fibre, acquisition)
    for bundle in range(field.direction.shape[-2]):
        rows = torch.randint(len(substrates), (filling.axons,), generator=rng).tolist()
        part = field.fractions[..., bundle]
        here = part > 0
        if not bool(here.any()):
            continue
        axons = [reduced(substrates.mesh(row)) for row in rows]
        direction = field.direction[..., bundle, :][here]
        attenuation = _bundle(axons, direction, filling, acquisition, rng)
        signal[here] += part[here][:, None] * (fibre * attenuation)
    clean = filling.amplitude * signal
    full = filling.amplitude * float(fibre.max())
    noisy = full * add_rician(clean / full, snr, rng)
    return Phantom(acquisition, field, clean, noisy, full / snr)


def _unweighted(material: Material, acquisition: Acquisition) -> Float[Tensor, " measurement"]:
    """density exp(-TE/T2) of each measurement."""
    return material.density * torch.exp(-acquisition.durations("echo_time") / material.t2_ms)


def _isotropic(
    field: Field, filling: Filling, cell: ReducedModel, acquisition: Acquisition
) -> Float[Tensor, "x y z measurement"]:
    """Signal of cells and free water, which no direction changes."""
    inside = simulate_reduced(cell, acquisition).abs() / unweighted(cell, acquisition)
    around = free(acquisition, filling.across_um2_per_ms)
    cells = filling.cell_fraction * inside + (1 - filling.cell_fraction) * around
    cells = cells * _unweighted(filling.cells, acquisition)
    water = free(acquisition, filling.free_water_um2_per_ms)
    water = water * _unweighted(filling.water, acquisition)
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
    across, along = filling.across_um2_per_ms, filling.along_um2_per_ms
    hindered = torch.diag(torch.tensor([across, across, along], dtype=torch.float64))
    volume = torch.stack([unweighted(axon, acquisition) for axon in axons]).sum(0)
    for chunk in progress(list(direction.split(TOGETHER)), "simulating a bundle"):
        # A fibre has no sign.
        rotation = turned_to(torch.where(chunk[:, 2:] < 0, -chunk, chunk))
        inside = torch.zeros(len(chunk), len(acquisition), dtype=torch.complex128)
        for axon in axons:
            turned = rotation @ _random_turns(len(chunk), filling.dispersion_rad, rng)
            signal = simulate_reduced(axon, _in_frames(acquisition, turned))
            inside = inside + signal.reshape(len(chunk), -1)
        around = free(_in_frames(acquisition, rotation), hindered).reshape(len(chunk), -1)
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


def _random_turns(
    count: int, dispersion: float, rng: torch.Generator
) -> Float[Tensor, "voxel 3 3"]:
    """Any turn about z, then a tilt by normal angles (rad) about x and y."""
    spin = 2 * math.pi * torch.rand(count, generator=rng, dtype=torch.float64)
    x, y = (dispersion * torch.randn(count, 2, generator=rng, dtype=torch.float64)).numpy().T
    tilt = Rotation.from_rotvec(np.column_stack([-y, x, np.zeros(count)]))
    return torch.from_numpy((tilt * Rotation.from_euler("z", spin[:, None].numpy())).as_matrix())

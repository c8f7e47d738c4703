"""The shapes, the protocol and the search of the permeable axon."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch
from torch import Tensor

import spinmesh
from experiments.permeable_axon.settings import FAMILIES, AxonSettings
from spinmesh.inversion.posterior import vertex_spread
from spinmesh.mesh import PARAMETERS
from spinmesh.shapes import volume

OUTER, LENGTH, MEMBRANE = 7.0, 16.0, 3.5  # um, of the template
KAPPA, FACTOR = 0.05, 0.7  # um/ms a priori, and the spread of its logarithm
RANGES = {
    "radius": (5.5, 8.5),
    "length": (13.0, 19.0),
    "bend": (0.0, 0.12),
    "bend_direction": (0.0, 6.28),
    "bead_amplitude": (0.0, 0.3),
    "bead_count": (1.0, 2.0),
    "bead_phase": (0.0, 6.28),
}
# The axon's mean radius as a part of the surrounding's.
MEMBRANES = (0.45, 0.65)


def template(rings: int, layers: int) -> spinmesh.TetMesh:
    """Compartment 1 is the axon, 2 its surrounding; an even number of rings."""
    size = spinmesh.SweptDisk(rings=rings, layers=layers, radius_um=OUTER, length_um=LENGTH)
    return spinmesh.nested_cylinder(size, inner_rings=rings // 2)


def surrounded(mesh: spinmesh.TetMesh, parameters: Tensor, membrane: float) -> Tensor:
    """Points (um) of a deformed template whose outer wall shares the axon's path, not its beads.

    `membrane` is the axon's mean radius as a part of the outer one. Radii are stretched linearly on
    either side of the membrane.
    """
    values = dict(zip(PARAMETERS, parameters.tolist(), strict=True))
    radius = mesh.points[:, :2].norm(dim=1)
    along = 2 * math.pi * values["bead_count"] * mesh.points[:, 2] / LENGTH
    bead = 1 + values["bead_amplitude"] * torch.sin(along + values["bead_phase"])
    inner = radius * membrane * OUTER / MEMBRANE
    share = (radius - MEMBRANE) / (OUTER - MEMBRANE)
    outer = (1 - share) * membrane * OUTER + share * OUTER / bead
    stretch = torch.where(radius > MEMBRANE, outer, inner) / radius.clamp_min(1e-12)
    points = torch.cat([mesh.points[:, :2] * stretch[:, None], mesh.points[:, 2:]], 1)
    # `deform` measures radii, and bends by widths, against the widest point that it is given.
    wider = float(points[:, :2].norm(dim=1).max()) / OUTER
    adjusted = parameters.clone()
    adjusted[PARAMETERS.index("radius")] *= wider
    adjusted[PARAMETERS.index("bend")] /= wider
    return spinmesh.deform(mesh.with_points(points), adjusted)


def drawn(mesh: spinmesh.TetMesh, family: str, count: int, seed: int) -> spinmesh.Substrates:
    """Shapes of a family with a seeded membrane each."""
    table = spinmesh.sample_substrates(mesh, {family: count}, RANGES, {"train": 1.0}, seed)
    generator = torch.Generator().manual_seed(seed)
    low, high = MEMBRANES
    membranes = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    pairs = zip(table.parameters, membranes.tolist(), strict=True)
    points = torch.stack([surrounded(mesh, row, membrane) for row, membrane in pairs])
    return replace(table, given=points)


def shape_model(mesh: spinmesh.TetMesh, per_family: int, latent: int) -> spinmesh.ShapeModel:
    """Principal components of all families; trained on seeds that no target has."""
    parts = [drawn(mesh, family, per_family, seed) for seed, family in enumerate(FAMILIES)]
    points, parameters = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("points", "parameters")
    )
    family = tuple(name for part in parts for name in part.family)
    split = ("train",) * len(family)
    names = parts[0].names
    table = spinmesh.Substrates(mesh, parameters, names, family, split, given=points)
    spec = spinmesh.ShapeTraining(
        kind="pca", latent=latent, modes=200, scores=latent, width=8, epochs=1
    )
    return spinmesh.train_shape_model(table, spec, seed=1)


def protocol() -> spinmesh.Acquisition:
    """135 measurements: b = 1, 4 and 15 ms/um^2, 15 directions; 10, 30 and 60 ms tell exchange."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.nn.functional.normalize(torch.randn((15, 3), generator=generator).double())
    b = torch.tensor([1.0, 4.0, 15.0]).repeat_interleave(15).repeat(3)
    Delta = torch.tensor([10.0, 30.0, 60.0]).repeat_interleave(45)
    return spinmesh.Acquisition.pgse(b, direction.repeat(9, 1), delta=3.0, Delta=Delta)


def water(permeability: float) -> spinmesh.Tissue:
    """2 um^2/ms on both sides of the membrane."""
    free = spinmesh.Tissue.uniform(2.0, labels=(1, 2))
    return spinmesh.Tissue(
        free.labels, free.diffusivity, free.t2, free.density, {(1, 2): permeability}
    )


def target_seed(family: str, number: int) -> int:
    """Of a target's shape and noise."""
    return 100 * (1 + FAMILIES.index(family)) + number


def target(
    mesh: spinmesh.TetMesh, family: str, number: int, snr: float
) -> tuple[spinmesh.Target, float]:
    """A shape that no model has seen, its signal at `snr`, and its permeability (um/ms)."""
    seed = target_seed(family, number)
    shape = drawn(mesh, family, 1, seed)
    permeability = KAPPA * 2.0 ** (number % 3 - 1)
    basis = spinmesh.Basis(tolerance=2e-5)
    measured = spinmesh.simulate_target(
        shape.mesh(0), water(permeability), protocol(), basis, snr, seed
    )
    return measured, permeability


def reconstruction(starts: int = 3) -> spinmesh.Reconstruct:
    """Permeability and shape are free."""
    membrane = spinmesh.Free(quantity="permeability", compartments=(1, 2), spread=FACTOR)
    return spinmesh.Reconstruct(free=(membrane,), starts=starts)


def scores(
    result: spinmesh.Reconstruction, model: spinmesh.ShapeModel, truth: Tensor, permeability: float
) -> dict[str, float]:
    """Errors of the axon beside those of the mean training shape; and of its permeability.

    `truth` are the true points on the model's template, with which those of a shape are compared,
    modulo translation and point reflection. `decoder` is the truth encoded and decoded.
    """
    template = model.basis.template
    shapes = {
        "": result.mesh.points,
        "_mean_shape": model.mean_points,
        "_decoder": model.decode(model.encode(truth)),
    }
    true_mesh = template.with_points(truth)
    axon = torch.unique(template.tets[template.compartment == 1])
    row: dict[str, float] = {}
    for name, points in shapes.items():
        apart = vertex_spread(true_mesh, template, points[None])[axon]
        row[f"axon_error{name}"] = float(apart.square().mean().sqrt())
        share = volume(template.with_points(points).part(1)) / volume(true_mesh.part(1))
        row[f"volume_error{name}"] = abs(share - 1)
    draws = result.posterior.samples.physics[:, 0]
    best = result.fit.free["permeability 1-2"]
    off = math.log(best / permeability)
    return row | {
        "permeability": best,
        "permeability_spread": float(draws.std()),
        "permeability_true": permeability,
        "spreads_off": off / float(draws.log().std()),
        "chi2_per_measurement": result.fit.chi2_per_measurement,
    }


def reconstruct_target(
    settings: AxonSettings, model: spinmesh.ShapeModel, family: str, number: int
) -> dict[str, object]:
    """A row of the table: errors of one target, and the CPU seconds of its reconstruction."""
    fine = template(*settings.target_template)
    seen, permeability = target(fine, family, number, settings.snr)
    start = time.process_time()
    how = reconstruction(settings.starts)
    result = spinmesh.reconstruct(seen, model, water(KAPPA), how, number)
    took = time.process_time() - start
    same = drawn(model.basis.template, family, 1, target_seed(family, number)).points[0]
    row = scores(result, model, same, permeability)
    return {"family": family, "target": number, **row, "cpu_s": round(took)}

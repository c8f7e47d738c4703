"""Bodies and tissues that many tests share."""

import itertools
import math

import numpy as np
import torch
from skfem import MeshTet

from spinmesh.mesh import (
    PARAMETERS,
    PeriodicPlane,
    SweptDisk,
    TetMesh,
    deform,
    nested_cylinder,
    neutral_parameters,
    swept_disk,
)
from spinmesh.mesh.faces import turned_positive
from spinmesh.mesh.template import with_mid_edge_nodes
from spinmesh.sequence import (
    PGSE,
    Acquisition,
    CosineOGSE,
    FreeWaveform,
    MultiplePGSE,
    SineOGSE,
    TrapezoidalOGSE,
)
from spinmesh.tissue import Tissue


def sampled(sequence) -> FreeWaveform:
    """Another sequence's steps as a waveform, along z if it has no directions of its own."""
    durations, levels = sequence.steps()
    return FreeWaveform(durations, levels if sequence.axes == 3 else levels * np.eye(3)[2])


def two_shells(count=30, b=(1.0, 3.0), unweighted=2) -> Acquisition:
    """Unweighted measurements, then two b (ms/um^2) in random directions at two diffusion times."""
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn((count, 3), generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    zero = Acquisition.pgse(torch.zeros(unweighted), direction[:unweighted], 5.0, 10.0)
    shells = [
        Acquisition.pgse(torch.full((count,), value), direction, 5.0, Delta)
        for Delta in (10.0, 40.0)
        for value in b
    ]
    return Acquisition.joined([zero, *shells])


def deformed(template: TetMesh, **shape: float) -> TetMesh:
    """A template with some of its parameters (`mesh.PARAMETERS`) off neutral."""
    parameters = neutral_parameters(template)
    for name, value in shape.items():
        parameters[PARAMETERS.index(name)] = value
    return template.with_points(deform(template, parameters), "deformed")


def axon(rings=2, layers=8, radius=2.0, length=16.0, order=2, **shape: float) -> TetMesh:
    """A swept disk (um), bent, beaded, fanned as asked."""
    return deformed(
        swept_disk(
            SweptDisk(rings=rings, layers=layers, radius_um=radius, length_um=length, order=order)
        ),
        **shape,
    )


def fanned_cells(layers=3) -> TetMesh:
    """A core and its shell, bent and beaded: no symmetry is left."""
    template = nested_cylinder(SweptDisk(rings=2, layers=layers, radius_um=3.0, length_um=8.0), 1)
    return deformed(template, bend=0.1, bead_amplitude=0.3, fan_angle=0.6)


def box(count: int, side: float, order: int) -> TetMesh:
    """A cube of `side` um, `count` cells along each edge, six tets per cell."""
    ticks = np.linspace(0, side, count + 1)
    mesh = MeshTet.init_tensor(ticks, ticks, ticks)
    points, tets = mesh.p.T, turned_positive(mesh.p.T, mesh.t.T)
    if order == 2:
        points, tets = with_mid_edge_nodes(points, tets)
    points, tets = torch.from_numpy(points.copy()), torch.from_numpy(tets.copy()).long()
    return TetMesh(points, tets, torch.ones(len(tets)).long(), "box")


def cells(diffusivity=(2.0, 2.0), t2=math.inf, density=1.0, kappa=0.0, wall=0.0) -> Tissue:
    """Compartments 1, 2, ... of scalar or tensor `diffusivity`; the rest one number or one each.

    `kappa` is between neighbours, `wall` around the last compartment.
    """
    labels = tuple(range(1, len(diffusivity) + 1))
    unit = torch.eye(3, dtype=torch.float64)
    tensors = [torch.as_tensor(d, dtype=torch.float64) for d in diffusivity]
    return Tissue(
        labels,
        torch.stack([d if d.ndim else d * unit for d in tensors]),
        torch.as_tensor(t2, dtype=torch.float64).expand(len(labels)),
        torch.as_tensor(density, dtype=torch.float64).expand(len(labels)),
        {pair: kappa for pair in itertools.pairwise(labels)},
        {labels[-1]: wall} if wall else {},
    )


TENSOR = [[1.2, 0.3, -0.2], [0.3, 2.0, 0.1], [-0.2, 0.1, 1.5]]
# Everything unequal: D (one a full tensor), T2, density; a membrane and a relaxing wall.
UNEQUAL = cells((TENSOR, 2.5), (25.0, 70.0), (0.6, 1.3), 0.3, 0.05)

# Its own mirror image neither in time nor in space: signals are complex.
WAVEFORM = FreeWaveform.of([2.0, 3.0, 5.0], [[3.0, 0, 1], [0, 2.0, -0.5], [-1.2, -1.2, -0.1]])[0]
# One of every family, and those of its options that change how it is propagated.
SEQUENCES = {
    "PGSE": PGSE(3.0, 8.0),
    "PGSE, ramps and dead time": PGSE(3.0, 8.0, ramp=0.5, TE=16.0),
    "cosine OGSE": CosineOGSE(4.0, 6.0, 1),
    "sine OGSE": SineOGSE(4.0, 6.0, 1, TE=12.0),
    "trapezoidal OGSE": TrapezoidalOGSE(8.0, 12.0, 2, 0.5),
    "double PGSE": MultiplePGSE.double(1.5, 4.0, 2.0, (1.0, 0.0, 0.0)),
    "spherical tensor": MultiplePGSE.spherical(2.0, 5.0),
    "free waveform": WAVEFORM,
}


def plane_part(plane: PeriodicPlane, label: int) -> PeriodicPlane:
    """The triangles of one label."""
    inside = plane.label == label
    nodes = np.unique(plane.nodes[inside], return_inverse=True)[1].reshape(-1, 6)
    points, disk, labels = plane.points[inside], plane.disk[inside], plane.label[inside]
    return PeriodicPlane(points, nodes, disk, labels, plane.cell)

"""What several cases share: shapes, directions, tissue, and the error of signals."""

from __future__ import annotations

import torch
from torch import Tensor

from spinmesh.bloch_torrey import Signals
from spinmesh.mesh import PARAMETERS, SweptDisk, TetMesh, deform, neutral_parameters, swept_disk
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)


def directions(count: int, seed: int = 0) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def shaped(template: TetMesh, name: str, **parameters: float) -> TetMesh:
    """The template deformed by named shape parameters."""
    values = neutral_parameters(template)
    for key, value in parameters.items():
        values[PARAMETERS.index(key)] = value
    return template.with_points(deform(template, values), name)


def axon(length: float, rings: int, layers: int) -> TetMesh:
    """A bent, beaded axon of radius 1 um, one bead per 8 um."""
    template = swept_disk(SweptDisk(rings=rings, layers=layers, radius_um=1.0, length_um=length))
    return shaped(
        template,
        f"axon of {length:g} um",
        bend=0.3,
        bead_amplitude=0.25,
        bead_count=length / 8,
    )


def published_acquisition() -> Acquisition:
    """ReMiDi's 1,890: delta 5 ms, Delta 10, 25, 50 ms, 21 b to 10 ms/um^2, 30 directions."""
    b = torch.arange(0, 10.5, 0.5).double()
    grid = torch.cartesian_prod(torch.tensor([10.0, 25.0, 50.0]).double(), b)
    Delta, b = (grid[:, i].repeat_interleave(30) for i in (0, 1))
    return Acquisition.pgse(b, directions(30).repeat(63, 1), 5.0, Delta)


def largest_error(signal: Tensor, reference: Signals) -> float:
    """Largest change of a signal (measurement,) relative to the unweighted one."""
    change = (signal - reference.signal[0]).abs() / reference.unweighted[0]
    return float(change.max())

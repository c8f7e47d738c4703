"""Kernels made of formulas, so that no test of what is built on them has to simulate."""

import numpy as np
import pytest
import torch

from spinmesh.analytic import free
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.maps import Kernels, MapModel, train_posterior
from spinmesh.maps import kernels as module
from spinmesh.settings.maps import FlowTraining, KernelNodes, PosteriorTraining, TissueRanges

DEMO = "config/demo/maps"
FILES = {"bvals": f"{DEMO}.bval", "bvecs": f"{DEMO}.bvec", "delta_ms": 8.0, "TE_ms": 70.0}
ACQUISITION = read_acquisition(**FILES, Delta_ms=f"{DEMO}.Delta")
NODES = KernelNodes(
    bead_amplitude=1, bead_period=1, packed_fraction=2, size=2, diffusivity=2, packings=1
)


def attenuation(across: float, along: float) -> torch.Tensor:
    """Legendre coefficients of free water with a tensor, (shell, degree)."""
    polar = module._polar(module.shells_of(ACQUISITION))
    tensor = torch.diag(torch.tensor([across, across, along], dtype=torch.float64))
    shells = len(module.shells_of(ACQUISITION))
    return module._expanded(free(polar, tensor).reshape(1, 1, shells, -1))[0, 0]


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """Axons are thin, or as wide as across = size / 10; water is hindered by what is packed."""
    tissue = TissueRanges()
    rates = module._chebyshev(tissue.diffusivity_inside_um2_per_ms, 2)
    sizes = np.exp(module._chebyshev(module._logarithms(tissue.radius_um), 2))
    axon = [[attenuation(0.05 * s, float(D)) for D in rates] for s in sizes]
    packed = [
        [[attenuation(float(D) * (1 - f), float(D)) for D in rates] for _ in sizes]
        for f in module._chebyshev(tissue.packed_fraction, 2)
    ]
    bodies = [axon, *packed]
    table = torch.stack([torch.stack([torch.stack(row) for row in body]) for body in bodies])
    return Kernels(ACQUISITION, tissue, NODES, table)


@pytest.fixture(scope="session")
def model(kernels) -> MapModel:
    """Trained for a second: right in form, of no use as an answer."""
    flow = FlowTraining(members=2, transforms=1, width=16, iterations=80, batch=128)
    return train_posterior(kernels, PosteriorTraining(substrates=400, voxels=2, flow=flow), 2)

"""Derivatives of the reduced operators along many directions: two roads to one number."""

import torch

from spinmesh.mesh import SweptDisk, nested_cylinder
from spinmesh.reduction import krylov_span, project, push_forward
from spinmesh.reduction import pushforward as module
from spinmesh.tissue import Tissue

NESTED = Tissue(
    (1, 2),
    torch.stack([torch.eye(3), torch.diag(torch.tensor([2.0, 1.0, 1.5]))]).double(),
    torch.tensor([40.0, torch.inf]).double(),
    torch.tensor([1.0, 0.7]).double(),
    {(1, 2): 0.2},
    {2: 0.05},
)


def test_push_forward_is_forward_mode_through_project(monkeypatch):
    """Points and permeability at once, off the points that the span was built on."""
    mesh = nested_cylinder(SweptDisk(rings=2, layers=4, radius_um=3.0, length_um=8.0), 1)
    span = krylov_span(mesh, NESTED, degree=2, blocks=1)
    generator = torch.Generator().manual_seed(1)
    motion = 0.02 * torch.randn((3, *mesh.points.shape), generator=generator, dtype=torch.float64)

    def where(step):
        points = mesh.points + torch.einsum("d,dna->na", step[:3], motion)
        kappa = {(1, 2): 0.2 * torch.exp(step[3])}
        return points, Tissue(
            NESTED.labels, NESTED.diffusivity, NESTED.t2, NESTED.density, kappa, {2: 0.05}
        )

    def operators(step):
        model = project(span, *where(step))
        return model.laplacian, model.moments, model.mean

    here = torch.tensor([0.5, -0.3, 0.2, 0.1], dtype=torch.float64)
    directions = torch.cat([torch.eye(4), torch.ones(1, 4)]).double()
    # Two directions at a time: chunks are joined in their order.
    monkeypatch.setattr(module, "ALIVE", 2 * 5 * 8 * 100 * len(mesh.tets))
    found = push_forward(span, where, here, directions)
    for number, direction in enumerate(directions):
        slopes = torch.func.jvp(operators, (here,), (direction,))[1]
        for own, slope in zip(found.operators, slopes, strict=True):
            # The same sums in another order, of entries up to 1e2.
            torch.testing.assert_close(own[number], slope, rtol=1e-10, atol=1e-10)
    assert float(found.laplacian[3].abs().max()) > 1e-3

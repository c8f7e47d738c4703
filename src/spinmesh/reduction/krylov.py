"""The polynomial-seeded shift-invert block Krylov space."""

from __future__ import annotations

from spinmesh.fem import Matrices, assemble
from spinmesh.mesh import TetMesh
from spinmesh.reduction.projection import Projection
from spinmesh.reduction.shift_invert import Solve, shift_inverse
from spinmesh.reduction.span import Span, monomials, slowest_rate
from spinmesh.tissue import Tissue


def krylov_span(mesh: TetMesh, tissue: Tissue, degree: int = 2, blocks: int = 3) -> Span:
    """Polynomials up to `degree` per compartment, and `blocks` shift-inverted images of them.

    Polynomials are what a gradient does to a uniform magnetisation; (S + Q + R + sigma M)^-1 M is
    what diffusion does to it. One factorisation; orthonormal in the mass inner product.
    """
    matrices = assemble(mesh, tissue)
    solve = shift_inverse(matrices, slowest_rate(mesh, tissue))
    return krylov_projection(mesh, matrices, solve, degree, blocks).span


def krylov_projection(
    mesh: TetMesh,
    matrices: Matrices,
    solve: Solve,
    degree: int,
    blocks: int,
) -> Projection:
    """The polynomials and `blocks` images `solve(M V)`, each of the block before it."""
    space = matrices.space
    seed = monomials(mesh.points.detach()[space.dof_point], space.inside, degree).numpy()
    projection = Projection.empty(mesh, matrices).extended(seed)
    last = projection.vectors
    for _ in range(blocks):
        larger = projection.extended(solve(matrices.mass @ last))
        last = larger.vectors[:, projection.size :]
        if last.shape[1] == 0:
            break
        projection = larger
    return projection

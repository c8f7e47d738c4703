"""Signals of water between straight axons: two-dimensional, periodic, any PGSE direction.

The finite elements have a form that a uniform phase gradient leaves periodic. With
q(t) = gamma int g dt and m = exp(-i q.x) w, the Bloch-Torrey equation with reflecting walls is
w' = D (grad - i q)^2 w with n.(grad - i q) w = 0, and w is periodic where m is not. Weakly:

    M w' = -(S + i q.C + D q^2 M) w,   C_a[i,j] = D int (phi_i d_a phi_j - d_a phi_i phi_j) dx.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Complex, Float
from numpy import ndarray
from skfem import MeshTri
from skfem.quadrature import get_quadrature
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.fem import Pattern
from spinmesh.mesh import PeriodicPlane, shape_functions
from spinmesh.reduction import factorise, orthonormal
from spinmesh.sequence import PGSE, Acquisition, Sequence
from spinmesh.units import GAMMA

# Polynomial degree integrated exactly: that of the mass of straight triangles.
DEGREE = 4
# Images of the uniform state, at these parts of the strongest q of each direction. Measured on
# a packing of 55 %, b to 5 ms/um^2: 2e-4 of S0 from the full system (docs/methods/synthesis.md).
POWERS, LEVELS = 3, (0.5, 1.0)
# Parts of a pulse, each one fourth-order step: 1.3e-4 of S0 with 6, 6e-5 with 8.
PARTS = 8
# Directions this close (cosine) share their images.
PARALLEL = 1 - 1e-6
# Combinations of states this much smaller than the largest are left out.
DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class PlaneMatrices:
    """Sparse matrices over the nodes of a plane; the drift is antisymmetric, the others not."""

    mass: sp.csr_matrix  # um^2
    stiffness: sp.csr_matrix  # um^2/ms
    drift: tuple[sp.csr_matrix, sp.csr_matrix]  # um^3/ms, times q (1/um)
    diffusivity: float  # um^2/ms

    def operator(self, q: Float[ndarray, " 2"], shift: float) -> sp.csc_matrix:
        """S + i q.C + (D q^2 + shift) M, Hermitian and positive for a shift (1/ms) > 0."""
        scale = self.diffusivity * float(q @ q) + shift
        phase = q[0] * self.drift[0] + q[1] * self.drift[1]
        return (self.stiffness + 1j * phase + scale * self.mass).tocsc()


def assemble_plane(plane: PeriodicPlane, diffusivity: float) -> PlaneMatrices:
    """Matrices of six-node triangles by quadrature."""
    xi, weights = get_quadrature(MeshTri.elem, DEGREE)
    value, gradient = (x.numpy() for x in shape_functions(torch.from_numpy(xi.T.copy()), 6))
    jacobian = np.einsum("tna,qnb->tqab", plane.points, gradient, optimize=True)
    slope = np.einsum("qnb,tqba->tqna", gradient, np.linalg.inv(jacobian), optimize=True)
    weight = np.abs(np.linalg.det(jacobian)) * weights
    weighted = weight[..., None, None] * slope
    mass = np.einsum("tq,qi,qj->tij", weight, value, value, optimize=True)
    stiffness = np.einsum("tqia,tqja->tij", weighted, slope, optimize=True)
    forward = np.einsum("qi,tqja->atij", value, weighted, optimize=True)
    drift = diffusivity * (forward - forward.swapaxes(2, 3))
    pattern = Pattern.of(plane.nodes, int(plane.nodes.max()) + 1)
    matrices = [
        pattern.filled(torch.from_numpy(x)) for x in (mass, diffusivity * stiffness, *drift)
    ]
    return PlaneMatrices(matrices[0], matrices[1], (matrices[2], matrices[3]), diffusivity)


def plane_attenuation(
    matrices: PlaneMatrices, acquisition: Acquisition, powers: int = POWERS, parts: int = PARTS
) -> Float[Tensor, " measurement"]:
    """S/S0 of the water in a periodic plane, free along z; not differentiable.

    The gradient's part along z multiplies by exp(-b_zz D), exactly. The plane is reduced to
    `powers` images (S + i q.C + (D q^2 + s) M)^-1 M of the uniform state at two strengths of every
    in-plane direction. Raises SequenceError unless every sequence is a PGSE of rectangular pulses.
    """
    pulses = np.array([_pulse_times(acquisition.sequences[i]) for i in acquisition.timing.tolist()])
    q = GAMMA * pulses[:, :1] * acquisition.gradient.numpy()
    basis = _basis(matrices, q[:, :2], float(pulses.sum(1).max()), powers)
    reduced = _Reduced(matrices, basis)
    along = np.exp(-matrices.diffusivity * acquisition.b_tensor[:, 2, 2].numpy())
    result = np.ones(len(q))
    for delta, Delta in np.unique(pulses, axis=0):
        alike = (pulses == (delta, Delta)).all(1) & (np.abs(q[:, :2]).max(1) > 0)
        if alike.any():
            result[alike] = reduced.attenuation(q[alike, :2], delta, Delta, parts)
    return torch.from_numpy(result * along)


def _pulse_times(sequence: Sequence) -> tuple[float, float]:
    """delta and Delta (ms); SequenceError unless it is a PGSE of rectangular pulses."""
    if not isinstance(sequence, PGSE) or sequence.ramp != 0:
        raise SequenceError(
            f"plane: measurement with {sequence}; a periodic plane takes PGSE of rectangular "
            "pulses only."
        )
    return sequence.delta, sequence.Delta


def _basis(
    matrices: PlaneMatrices, q: Float[ndarray, "measurement 2"], longest: float, powers: int
) -> Float[ndarray, "node mode"]:
    """Orthonormal real span of the uniform state and its images at the acquisition's q."""
    mass, shift = matrices.mass, 2 * np.pi / longest
    columns = [np.ones(mass.shape[0])]
    for strongest in _strongest(q):
        for level in LEVELS:
            solver = factorise(matrices.operator(level * strongest, shift))
            state = columns[0].astype(complex)
            for _ in range(powers):
                state = solver.solve(mass @ state)
                columns += [state.real, state.imag]
    return orthonormal(np.stack(columns, 1), np.zeros((mass.shape[0], 0)), mass, DEPENDENT)


def _strongest(q: Float[ndarray, "measurement 2"]) -> list[ndarray]:
    """The largest q of every distinct direction; opposite ones are the complex conjugate."""
    distinct: list[ndarray] = []
    for vector in q[np.argsort(-np.linalg.norm(q, axis=1), kind="stable")]:
        length = np.linalg.norm(vector)
        along = [abs(vector @ other) / np.linalg.norm(other) for other in distinct]
        if length > 0 and all(part < PARALLEL * length for part in along):
            distinct.append(vector)
    return distinct


class _Reduced:
    """The plane's operators in a mass-orthonormal basis."""

    def __init__(self, matrices: PlaneMatrices, basis: ndarray) -> None:
        self.stiffness = basis.T @ (matrices.stiffness @ basis)
        self.drift = np.stack([basis.T @ (c @ basis) for c in matrices.drift])
        self.initial = basis.T @ (matrices.mass @ np.ones(len(basis)))
        self.diffusivity = matrices.diffusivity

    def attenuation(
        self, q: Float[ndarray, "measurement 2"], delta: float, Delta: float, parts: int
    ) -> Float[ndarray, " measurement"]:
        """v^H exp(-(Delta - delta) K(q)) v / S0 with v the state after the first pulse.

        K(q) = S + i q.C + D q^2 is Hermitian, and the second pulse runs through the q of the first
        one backwards, so its propagator is the Hermitian transpose of the first one's.
        """
        phase = np.einsum("ma,aij->mij", q, self.drift)
        square = self.diffusivity * (q**2).sum(1)[:, None, None] * np.eye(len(self.initial))
        state = self._pulse(phase, square, delta, parts)
        values, vectors = np.linalg.eigh(self.stiffness + 1j * phase + square)
        modes = np.einsum("mki,mk->mi", vectors.conj(), state)
        decay = np.exp(-(Delta - delta) * values)
        return np.asarray((decay * np.abs(modes) ** 2).sum(1) / (self.initial @ self.initial))

    def _pulse(
        self, phase: ndarray, square: ndarray, delta: float, parts: int
    ) -> Complex[ndarray, "measurement mode"]:
        """While q rises in proportion to time: commutator-free steps (Blanes & Moan 2006)."""
        state = torch.from_numpy(self.initial).to(torch.complex128).expand(phase.shape[:2])
        state = state[..., None]
        nodes = 0.5 + 3**0.5 / 6 * np.array([-1, 1])
        shares = 0.5 + 3**0.5 / 3 * np.array([[1, -1], [-1, 1]])
        for part in range(parts):
            rise = (part + nodes) / parts
            for share in shares:
                first, second = share @ rise, share @ rise**2
                operator = self.stiffness + 1j * first * phase + second * square
                step = torch.from_numpy(-delta / (2 * parts) * operator)
                state = torch.linalg.matrix_exp(step) @ state
        return state[..., 0].numpy()

"""A body in pieces gives the signal of the whole; what the cuts change stays below its bound."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from bodies import cells
from skfem import MeshTet
from torch.autograd import gradcheck

from spinmesh.analytic import cylinder, slab, sphere
from spinmesh.bloch_torrey import Basis, Signals, reduce_mesh, simulate_reduced
from spinmesh.bodies import (
    Body,
    Cut,
    bound_of_cut,
    cut_body,
    cut_where_it_pays,
    joined_shares,
    piece_around,
    reduce_piece,
    signal_of_pieces,
    signals_of,
    simulate_body,
    simulate_cut,
    simulate_share,
    spins_from_cut,
)
from spinmesh.errors import ReductionError, SpinmeshError
from spinmesh.io.codec import gather
from spinmesh.machine import side_by_side
from spinmesh.mesh import SweptDisk, TetMesh, ball, nested_cylinder, swept_disk
from spinmesh.mesh.faces import turned_positive
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

# Water of 2 um^2/ms spreads by 4 um within this echo of 4 ms, and 1 in 1,000 goes 13 um.
ECHO = 4.0
FINE = Basis(tolerance=1e-6)


def tube(length: float = 60.0, order: int = 1) -> TetMesh:
    """Of 1 um radius, elements 1 um long."""
    layers = round(length)
    size = SweptDisk(rings=1, layers=layers, radius_um=1.0, length_um=length, order=order)
    return swept_disk(size)


def double_tube(length: float = 60.0) -> TetMesh:
    """A core of 1 um radius in a shell of another."""
    size = SweptDisk(rings=2, layers=round(length), radius_um=2.0, length_um=length, order=1)
    return nested_cylinder(size, 1)


def pulses(directions=((0, 0, 1), (0.6, 0, 0.8), (1, 0, 0)), b=1.0) -> Acquisition:
    unit = torch.nn.functional.normalize(torch.tensor(directions, dtype=torch.float64))
    return Acquisition.pgse([b] * len(unit), unit, 1.0, ECHO - 1.0)


def layered_tube() -> TetMesh:
    """Three cells one behind the other, 20 um each."""
    mesh = tube()
    height = mesh.points[mesh.tets].mean(1)[:, 2].contiguous()
    return replace(mesh, compartment=1 + torch.bucketize(height, torch.tensor([20.0, 40.0])))


def branching_tube(half=20, side=15) -> TetMesh:
    """2 um thick and square, with a branch from its middle, um."""
    whole = MeshTet.init_tensor(np.arange(-1, side + 1.0), np.arange(3.0), np.arange(2.0 * half))
    x, _, z = whole.p[:, whole.t].mean(1)
    mesh = whole.restrict(np.flatnonzero((x < 1) | (abs(z - half) < 1)))
    points, tets = mesh.p.T.copy(), turned_positive(mesh.p.T, mesh.t.T)
    label = torch.ones(len(tets)).long()
    return TetMesh(torch.from_numpy(points), torch.from_numpy(tets.copy()).long(), label, "Y")


EXCHANGING = cells((2.0, 1.0), t2=(30.0, 80.0), density=(1.0, 0.7), kappa=0.05, wall=0.01)
LAYERED = cells(
    (2.0, 1.0, 1.5), t2=(30.0, 80.0, 50.0), density=(1.0, 0.7, 1.2), kappa=0.05, wall=0.01
)
BODIES = {
    "straight": (tube(80.0), Tissue.uniform(2.0)),
    "curved": (tube(order=2), Tissue.uniform(2.0, 40.0)),
    "exchanging": (double_tube(), EXCHANGING),
    "layered": (layered_tube(), LAYERED),
    "branching": (branching_tube(), Tissue.uniform(1.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BODIES if name != "straight"])
def test_pieces_give_the_signal_of_the_whole_within_the_tolerance(name: str) -> None:
    """Of each compartment."""
    mesh, tissue = BODIES[name]
    cut = simulate_body(mesh, tissue, pulses(), Basis(tolerance=1e-3), by_compartment=True)
    model = reduce_mesh(mesh, tissue, pulses(), Basis(tolerance=1e-5)).reduced
    whole = Signals.of_compartments(model, pulses())
    left = whole.unweighted.sum(0)
    assert cut.parts is not None and cut.compartments is not None
    assert len(cut.parts.modes) > 1 and "pieces" in cut.words
    change = (cut.compartments.signal - whole.signal).abs() / left
    assert change.shape == (len(mesh.labels), 3) and float(change.max()) <= 1e-3
    torch.testing.assert_close(cut.compartments.signal.sum(0), cut.signals.signal[0])
    torch.testing.assert_close(cut.signals.unweighted[0], left, rtol=1e-3, atol=0)


def test_a_sphere_in_pieces_has_its_exact_signal() -> None:
    """Cut by force: water that goes 2 um within the echo, in a sphere of 5 um radius.

    Its 833 curved nodes are off by 2e-4 at this gradient (docs/theory.md, section 10).
    """
    acquisition, water = pulses([(0, 0, 1)], b=3.0), Tissue.uniform(0.1)
    cut = cut_body(Body.of(ball(5.0, 2), water), acquisition, 1e-2, core=5.0)
    assert len(cut.pieces) > 1 and cut.changed > 0
    parts, _ = simulate_cut(cut, acquisition, Basis(tolerance=1e-2))
    error = (parts.signals.attenuation[0] - sphere(acquisition, 5.0, 0.1)).abs()
    assert float(error.max()) <= 1e-2


def test_a_cylinder_of_200_um_has_its_exact_signal() -> None:
    """Aslant: the product of a slab's signal along and a disk's across.

    To the tolerance; curved elements of 2 um are off by 3e-4 of that (time stepping of the whole).
    """
    size = SweptDisk(rings=1, layers=100, radius_um=0.5, length_um=200.0)
    acquisition, water = pulses([(0.6, 0, 0.8)]), Tissue.uniform(1.0)
    result = simulate_body(swept_disk(size), water, acquisition, Basis(tolerance=1e-3))
    assert result.parts is not None and len(result.parts.modes) > 5
    axis = torch.tensor([0.0, 0.0, 1.0])
    along = replace(acquisition, gradient=acquisition.gradient * axis)
    across = replace(acquisition, gradient=acquisition.gradient * (1 - axis))
    exact = slab(along, 200.0, 1.0, axis) * cylinder(across, 0.5, 1.0, axis)
    assert float((result.signals.attenuation[0] - exact).abs().max()) <= 1e-3


def test_cores_share_the_body_and_their_water_adds_up_to_all() -> None:
    mesh, tissue = BODIES["straight"]
    cut = cut_body(Body.of(mesh, tissue), pulses(), 1e-3)
    tets = np.concatenate([piece.tets[piece.core] for piece in cut.pieces])
    assert np.array_equal(np.sort(tets), np.arange(len(mesh.tets)))
    parts, _ = simulate_cut(cut, pulses(), Basis(tolerance=1e-3))
    volume = float(Body.of(mesh, tissue).cells.mass.sum())
    assert parts.signals.unweighted[0].numpy() == pytest.approx(volume, rel=1e-12)


def cut_by(body: Body, halo: float) -> Cut:
    """Pieces of one halo, whatever the error."""
    pieces = [piece_around(body, tets, halo) for tets in body.cores(10.0)]
    changed = sum(bound_of_cut(piece, ECHO / 2) for piece in pieces)
    return Cut(pieces, np.full(len(pieces), 1 / len(pieces)), changed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "seed"),
    [
        ((tube(36.0), Tissue.uniform(2.0)), 0),
        ((tube(36.0), Tissue.uniform(2.0)), 1),
        ((layered_tube(), LAYERED), 2),
    ],
)
def test_what_short_halos_change_stays_below_the_bound(
    body: tuple[TetMesh, Tissue], seed: int
) -> None:
    """At random halos, strengths and directions; the bases are so good that only the cuts err."""
    rng = np.random.default_rng(seed)
    mesh, tissue = body
    acquisition = pulses(rng.standard_normal((3, 3)), b=float(rng.uniform(0.3, 2.0)))
    cut = cut_by(Body.of(mesh, tissue), float(rng.uniform(3.0, 6.0)))
    parts, _ = simulate_cut(cut, acquisition, FINE)
    whole = signals_of(reduce_mesh(mesh, tissue, acquisition, FINE), acquisition)
    change = float((parts.signals.signal - whole.signal).abs().max())
    assert change <= cut.changed
    # So large that the basis' 1e-6 of the signal cannot be what is seen.
    assert change > 2e-6 * float(whole.unweighted.max())


@pytest.mark.parametrize("halo", [4.0, 6.0, 9.0])
def test_spins_that_reach_the_cut_are_those_of_a_line_with_absorbing_ends(halo: float) -> None:
    """Series of the slab; backward Euler and elements of 1 um let more arrive, never less."""
    body = Body.of(tube(), Tissue.uniform(2.0))
    height = body.position[body.corner_dofs].mean(1)[:, 2]
    piece = piece_around(body, np.flatnonzero((height > 25) & (height < 35)), halo)
    z = body.position[body.corner_dofs[piece.tets]][:, :, 2]
    low, high = z.min(), z.max()
    core = body.position[body.corner_dofs[piece.tets[piece.core]]].mean(1)[:, 2]
    n = np.arange(1, 400, 2)[:, None]
    wave = np.pi * n / (high - low)
    stay = (4 / (np.pi * n) * np.sin(wave * (core - low)) * np.exp(-2.0 * wave**2 * ECHO)).sum(0)
    spins = body.cells.mass[piece.tets[piece.core]].sum((1, 2)).numpy()
    exact = float(spins @ (1 - stay))
    assert exact <= spins_from_cut(piece, ECHO) <= 2 * exact


def test_water_behind_a_sealed_membrane_is_not_near() -> None:
    mesh = double_tube(40.0)
    sealed = Body.of(mesh, cells((2.0, 2.0), kappa=0.0))
    leaky = Body.of(mesh, cells((2.0, 2.0), kappa=0.1))
    inner = np.flatnonzero(mesh.compartment.numpy() == 1)[:20]
    assert piece_around(sealed, inner, 10.0).mesh.labels == (1,)
    assert piece_around(leaky, inner, 10.0).mesh.labels == (1, 2)


def test_small_bodies_stay_whole() -> None:
    tissue = Tissue.uniform(2.0)
    assert cut_where_it_pays(ball(5.0, 1), tissue, pulses(), 1e-5) is None
    result = simulate_body(ball(5.0, 1), tissue, pulses())
    assert result.parts is None and "pieces" not in result.words
    fixed = simulate_body(ball(5.0, 1), tissue, pulses(), Basis(blocks=2))
    assert fixed.words.startswith("unknown")


@pytest.mark.slow
def test_gradients_through_pieces_are_those_of_finite_differences() -> None:
    """In the nodes along a smooth direction, the diffusivity, T2, density and permeability."""
    mesh, tissue = double_tube(20.0), EXCHANGING
    acquisition = pulses(b=1.0)
    cut = cut_body(Body.of(mesh, tissue), acquisition, 1e-2, core=10.0)
    spans = [reduce_piece(piece, acquisition, Basis(tolerance=1e-3)).span for piece in cut.pieces]
    bend = torch.stack([(mesh.points[:, 2] / 10) ** 2, *torch.zeros(2, len(mesh.points))], 1)

    def signal(step: torch.Tensor) -> torch.Tensor:
        moved = replace(
            tissue,
            diffusivity=tissue.diffusivity * torch.exp(step[1]),
            t2=tissue.t2 * torch.exp(step[2]),
            density=tissue.density + step[3] * torch.tensor([0.0, 1.0], dtype=torch.float64),
            permeability={(1, 2): 0.05 + step[4]},
        )
        points = mesh.points + step[0] * bend
        return torch.view_as_real(signal_of_pieces(cut, spans, points, moved, acquisition))

    assert len(spans) > 1
    zero = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(signal, zero, rtol=1e-5, atol=1e-4)
    whole = simulate_reduced(reduce_mesh(mesh, tissue, acquisition, FINE).reduced, acquisition)
    here = torch.view_as_complex(signal(zero).detach())
    assert float((here - whole).abs().max()) < 1e-2 * float(whole.abs().max())


def test_a_long_body_that_memory_does_not_hold_is_refused_before_it_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spinmesh.bloch_torrey.basis.available_memory", lambda: 1_000_000)
    monkeypatch.setattr("spinmesh.bodies.pieces.cut_body", None)
    with pytest.raises(ReductionError, match=r"need about .* GB of memory; 0\.001 GB are free"):
        simulate_body(tube(80.0), Tissue.uniform(2.0), pulses(), Basis(tolerance=1e-3))


def test_a_body_as_thick_as_long_stays_whole() -> None:
    """Its pieces would have most of its tets each."""
    thick = swept_disk(SweptDisk(rings=2, layers=6, radius_um=40.0, length_um=80.0, order=1))
    assert cut_where_it_pays(thick, Tissue.uniform(2.0), pulses(), 1e-4) is None


@pytest.mark.slow
def test_pieces_over_processes_and_jobs_are_those_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Jobs bit for bit, also where they are more than pieces."""
    mesh, tissue = BODIES["layered"]
    case, basis = (mesh, tissue, pulses([(0.6, 0, 0.8)])), Basis(tolerance=1e-2)
    one = simulate_body(*case, basis).signals
    shares = [simulate_share(*case, basis, job=job, jobs=9) for job in range(9)]
    joined = joined_shares(mesh, tissue, gather(shares, "substrate"))
    assert 1 < sum(bool(share.unweighted.any()) for share in shares) < 9
    assert torch.equal(joined.signal, one.signal)
    assert torch.equal(joined.unweighted, one.unweighted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    # Bases and signals are those of the same matrices, up to the rounding of their products.
    two = simulate_body(*case, basis).signals
    torch.testing.assert_close(two.signal, one.signal, rtol=1e-9, atol=0)


def test_a_body_that_stays_whole_is_left_to_the_first_job() -> None:
    case = ball(5.0, 1), Tissue.uniform(2.0), pulses()
    shares = [simulate_share(*case, job=job, jobs=2) for job in range(2)]
    joined = joined_shares(*case[:2], gather(shares, "substrate"))
    assert torch.equal(joined.signal, simulate_body(*case).signals.signal)


def test_a_killed_process_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(SpinmeshError, match=r"was killed.*fewer threads"):
        list(side_by_side(lambda number: os.kill(os.getpid(), signal.SIGKILL), 2))

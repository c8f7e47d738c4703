"""What leaves the signal, or changes it in a known way: one table, for every simulator.

Bent, beaded, fanned cells with a membrane, unequal full tensors, T2 and densities, under a waveform
that is its own mirror image neither in time nor in space: nothing vanishes by symmetry.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from bodies import UNEQUAL, WAVEFORM, fanned_cells

from spinmesh.bloch_torrey import (
    Basis,
    matrix_formalism,
    reduce_mesh,
    simulate_compartments,
    step_signal,
)
from spinmesh.bodies import simulate
from spinmesh.mesh import TetMesh, rotation_matrix
from spinmesh.reduction import ReducedModel
from spinmesh.sequence import Acquisition, FreeWaveform
from spinmesh.tissue import Tissue


def acquisition(waveform):
    direction = torch.tensor([[0.0, 0, 1], [0.6, 0, 0.8], [0, 1, 0]]).double()
    return Acquisition.of(waveform, [0.5, 1.5, 3.0], direction)


@dataclass(frozen=True, eq=False)
class Experiment:
    """What a simulator is given."""

    mesh: TetMesh
    tissue: Tissue
    acquisition: Acquisition


def krylov(e):
    return simulate(e.mesh, e.tissue, e.acquisition, Basis(tolerance=1e-6)).signal[0]


def laplace(e):
    return simulate(e.mesh, e.tissue, e.acquisition, MODES).signal[0]


def definition(e):
    reduced = reduce_mesh(e.mesh, e.tissue, e.acquisition, MODES).reduced
    return matrix_formalism(reduced, e.acquisition).sum(0)


def time_stepping(e):
    return step_signal(e.mesh, e.tissue, e.acquisition, 1e-9).signals.signal[0]


MODES = Basis(kind="laplace", modes=40)
# How far two experiments that are one may differ, relative to the largest signal: two adaptive
# bases of 1e-6 each; the same eigenfunctions, each simulated to 1e-10 a step; a few hundred sums
# in another order; two bounds of 1e-9 of S0.
SIMULATORS = {
    krylov: 2e-6,
    laplace: 1e-8,
    definition: 1e-10,
    time_stepping: 1e-8,
}


@cache
def plain():
    return Experiment(fanned_cells(layers=2), UNEQUAL, acquisition(WAVEFORM))


@cache
def plain_signal(simulator):
    return simulator(plain())


def moved(e):
    """A refocused gradient does not know where the origin is."""
    shift = torch.tensor([30.0, -7.0, 2.0]).double()
    return replace(e, mesh=e.mesh.with_points(e.mesh.points + shift)), same


def turned(e):
    """Cells, tensors and gradients together."""
    turn = rotation_matrix(torch.tensor([0.4, -1.0, 0.7]).double())
    tensors = turn @ e.tissue.diffusivity @ turn.T
    tissue = replace(e.tissue, diffusivity=(tensors + tensors.mT) / 2)
    mesh = e.mesh.with_points(e.mesh.points @ turn.T)
    return Experiment(mesh, tissue, e.acquisition.rotated(turn)), same


def reflected(e):
    """|S| cannot tell x from -x: reconstructions are compared modulo the point reflection."""
    swap = torch.tensor([0, 2, 1, 3, 6, 5, 4, 7, 9, 8])
    mesh = TetMesh(-e.mesh.points, e.mesh.tets[:, swap], e.mesh.compartment)
    return replace(e, mesh=mesh), torch.conj


def gradient_reversed(e):
    """The equation is real but for i gamma g.x, and so is what is excited and read out."""
    opposite = FreeWaveform(WAVEFORM.durations, -WAVEFORM.levels)
    return replace(e, acquisition=acquisition(opposite)), torch.conj


def time_reversed(e):
    """Excitation and read-out are one, and the operator is symmetric, whatever the densities."""
    backwards = FreeWaveform(WAVEFORM.durations[::-1].copy(), WAVEFORM.levels[::-1].copy())
    return replace(e, acquisition=acquisition(backwards)), same


def nodes_renumbered(e):
    generator = torch.Generator().manual_seed(0)
    new = torch.randperm(len(e.mesh.points), generator=generator)
    order = torch.randperm(len(e.mesh.tets), generator=generator)
    points = torch.empty_like(e.mesh.points).index_copy(0, new, e.mesh.points)
    return replace(
        e, mesh=TetMesh(points, new[e.mesh.tets][order], e.mesh.compartment[order])
    ), same


def compartments_renamed(e):
    """Labels 1 and 2 exchanged."""
    mesh, tissue = e.mesh, e.tissue
    other = Tissue(
        tissue.labels,
        tissue.diffusivity.flip(0),
        tissue.t2.flip(0),
        tissue.density.flip(0),
        tissue.permeability,
        {3 - label: kappa for label, kappa in tissue.wall_permeability.items()},
    )
    return replace(
        e, mesh=TetMesh(mesh.points, mesh.tets, 3 - mesh.compartment), tissue=other
    ), same


def units_of_length_and_time(e):
    """Twice the size takes four times as long at the same diffusivity, and holds eight times more.

    Permeability is a length over a time, and gamma g an inverse length over a time.
    """
    tissue = replace(
        e.tissue,
        t2=4 * e.tissue.t2,
        permeability={pair: kappa / 2 for pair, kappa in e.tissue.permeability.items()},
        wall_permeability={label: kappa / 2 for label, kappa in e.tissue.wall_permeability.items()},
    )
    slow = FreeWaveform(4 * WAVEFORM.durations, WAVEFORM.levels)
    gradient = e.acquisition.gradient / 8
    longer = Acquisition((slow,), e.acquisition.timing, gradient)
    return Experiment(e.mesh.with_points(2 * e.mesh.points), tissue, longer), lambda s: 8 * s


def unit_of_density(e):
    tissue = replace(e.tissue, density=3 * e.tissue.density)
    return replace(e, tissue=tissue), lambda s: 3 * s


def relaxation_of_all(e):
    """The same rate everywhere is a factor."""
    tissue = replace(e.tissue, t2=1 / (1 / e.tissue.t2 + 1 / 30.0))
    decay = math.exp(-WAVEFORM.echo_time / 30.0)
    return replace(e, tissue=tissue), lambda s: decay * s


def same(signal):
    return signal


INVARIANCES = (
    moved,
    turned,
    reflected,
    gradient_reversed,
    time_reversed,
    nodes_renumbered,
    compartments_renamed,
    units_of_length_and_time,
    unit_of_density,
    relaxation_of_all,
)


@pytest.mark.parametrize("simulator", SIMULATORS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("invariance", INVARIANCES, ids=lambda i: i.__name__)
def test_invariance(invariance, simulator):
    other, expected = invariance(plain())
    exact = expected(plain_signal(simulator))
    error = float((simulator(other) - exact).abs().max())
    assert error < SIMULATORS[simulator] * float(exact.abs().max())


def test_the_table_is_not_empty():
    """Signals have a phase, and a tensor that is not turned with its cells is another material."""
    signal = plain_signal(laplace)
    assert float(signal.imag.abs().max()) > 1e-2 * float(signal.abs().max())
    wrong = laplace(replace(turned(plain())[0], tissue=UNEQUAL))
    assert float((wrong - signal).abs().max()) > 1e-3 * float(signal.abs().max())


def excited_and_read(reduced, source, reader, waveform):
    """Signal of compartment `reader` when only compartment `source` is excited.

    The excitation of a ReducedModel is the sum of its read-outs, so a second read-out makes it so.
    """
    first, second = reduced.mean[reader], reduced.mean[source]
    model = ReducedModel(reduced.laplacian, reduced.moments, torch.stack([first, second - first]))
    return simulate_compartments(model, acquisition(waveform))[0]


def test_source_and_reader_may_be_swapped_if_time_is():
    """Reciprocity across a membrane between unequal densities and relaxations."""
    reduced = reduce_mesh(plain().mesh, UNEQUAL, plain().acquisition, MODES).reduced
    backwards = FreeWaveform(WAVEFORM.durations[::-1].copy(), WAVEFORM.levels[::-1].copy())
    through = excited_and_read(reduced, 0, 1, WAVEFORM)
    scale = float(through.abs().max())
    mirrored = excited_and_read(reduced, 1, 0, backwards)
    assert float((mirrored - through).abs().max()) < 1e-11 * scale  # rounding
    # Swapping the compartments alone is another experiment.
    assert float((excited_and_read(reduced, 1, 0, WAVEFORM) - through).abs().max()) > 1e-2 * scale

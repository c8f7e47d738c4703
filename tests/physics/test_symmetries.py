"""Invariances of the Bloch-Torrey equation: conjugation, reciprocity, turning, exact boxes."""

import pytest
import torch
from skfem import MeshTet

from spinmesh.analytic import slab
from spinmesh.bloch_torrey import (
    Basis,
    simulate_compartments,
    simulate_mesh,
    step_signal,
)
from spinmesh.mesh import (
    PARAMETERS,
    SweptDisk,
    TetMesh,
    deform,
    nested_cylinder,
    neutral_parameters,
    rotation_matrix,
)
from spinmesh.mesh.template import turned_positive, with_mid_edge_nodes
from spinmesh.reduction import ReducedModel, krylov_span, project
from spinmesh.sequence import Acquisition, FreeWaveform, MultiplePGSE
from spinmesh.tissue import Tissue

# Its own mirror image neither in time nor in space: signals are complex.
WAVEFORM = FreeWaveform.of([2.0, 3.0, 5.0], [[3.0, 0, 1], [0, 2.0, -0.5], [-1.2, -1.2, -0.1]])[0]
BACKWARDS = FreeWaveform(WAVEFORM.durations[::-1].copy(), WAVEFORM.levels[::-1].copy())


def acquisition(waveform, strongest=3.0):
    direction = torch.tensor([[0.0, 0, 1], [0.6, 0, 0.8], [0, 1, 0]]).double()
    return Acquisition.of(waveform, [0.5, 1.5, strongest], direction)


def fanned_cells():
    """A core and its shell, bent and beaded: no symmetry is left."""
    template = nested_cylinder(SweptDisk(rings=2, layers=3, radius_um=3.0, length_um=8.0), 1)
    parameters = neutral_parameters(template)
    for name, value in (("bend", 0.1), ("bead_amplitude", 0.3), ("fan_angle", 0.6)):
        parameters[PARAMETERS.index(name)] = value
    return template.with_points(deform(template, parameters), "fanned cells")


def tissue():
    """Everything unequal: D (one a full tensor), T2, density; a membrane and a relaxing wall."""
    tensor = torch.tensor([[1.2, 0.3, -0.2], [0.3, 2.0, 0.1], [-0.2, 0.1, 1.5]]).double()
    return Tissue(
        (1, 2),
        torch.stack([tensor, 2.5 * torch.eye(3).double()]),
        torch.tensor([25.0, 70.0]).double(),
        torch.tensor([0.6, 1.3]).double(),
        {(1, 2): 0.3},
        {2: 0.05},
    )


def reduced_cells():
    mesh = fanned_cells()
    return project(krylov_span(mesh, tissue()), mesh.points, tissue())


def test_turning_the_gradient_round_conjugates_the_signal():
    """The operators are real but for i gamma g.J, and so is what is excited and read out."""
    reduced = reduced_cells()
    opposite = FreeWaveform(WAVEFORM.durations, -WAVEFORM.levels)
    here, there = (simulate_compartments(reduced, acquisition(w)) for w in (WAVEFORM, opposite))
    scale = float(here.abs().max())
    assert float((there - here.conj()).abs().max()) < 1e-12 * scale  # rounding
    assert float(here.imag.abs().max()) > 1e-2 * scale


def test_full_system_cannot_tell_a_waveform_from_its_mirror_image_in_time():
    """Excitation and read-out are both 1'M and every matrix is symmetric, whatever the densities.

    By time stepping, because a projection would make the matrices symmetric if they were not.
    """
    forth, back = (
        step_signal(fanned_cells(), tissue(), acquisition(w), 6) for w in (WAVEFORM, BACKWARDS)
    )
    # Steps are rational functions of one interval's operator: reciprocal to rounding each.
    assert float(((forth.signal - back.signal).abs() / forth.unweighted).max()) < 1e-10
    assert float((forth.signal.imag.abs() / forth.unweighted).max()) > 1e-2


def excited_and_read(reduced, source, reader, waveform):
    """Signal of compartment `reader` when only compartment `source` is excited.

    The excitation of a ReducedModel is the sum of its read-outs, so a second read-out makes it so.
    """
    first, second = reduced.mean[reader], reduced.mean[source]
    own = ReducedModel(reduced.laplacian, reduced.moments, torch.stack([first, second - first]))
    return simulate_compartments(own, acquisition(waveform))[0]


def test_source_and_reader_may_be_swapped_if_time_is():
    """Reciprocity across a membrane between unequal densities and relaxations."""
    reduced = reduced_cells()
    through = excited_and_read(reduced, 0, 1, WAVEFORM)
    scale = float(through.abs().max())
    mirrored = excited_and_read(reduced, 1, 0, BACKWARDS)
    assert float((mirrored - through).abs().max()) < 1e-11 * scale  # rounding
    # Swapping the compartments alone is another experiment.
    assert float((excited_and_read(reduced, 1, 0, WAVEFORM) - through).abs().max()) > 1e-2 * scale


@pytest.mark.parametrize("waveform", [WAVEFORM, MultiplePGSE.planar(2.0, 6.0)], ids=["free", "b"])
def test_turning_cells_tensors_and_waveform_together_leaves_the_signal(waveform):
    mesh, material, tolerance = fanned_cells(), tissue(), 1e-6
    turn = rotation_matrix(torch.tensor([0.4, -1.0, 0.7]).double())
    moved = mesh.with_points(mesh.points @ turn.T + torch.tensor([30.0, -7.0, 2.0]).double())
    turned = turn @ material.diffusivity @ turn.T
    other = Tissue(
        material.labels,
        (turned + turned.mT) / 2,
        material.t2,
        material.density,
        material.permeability,
        material.wall_permeability,
    )
    basis = Basis(tolerance=tolerance)
    here = simulate_mesh(mesh, material, acquisition(waveform), basis)
    there = simulate_mesh(moved, other, acquisition(waveform).rotated(turn), basis)
    # Two bases, each good to the tolerance.
    change = (here.signal - there.signal).abs() / here.unweighted
    assert float(change.max()) < 2 * tolerance
    # The tensor has to turn along: left where it was it is another material.
    wrong = simulate_mesh(moved, material, acquisition(waveform).rotated(turn), basis)
    assert float(((here.signal - wrong.signal).abs() / here.unweighted).max()) > 1e-3


def box(cells, side=4.0):
    """A cube of `side` um in 10-node tets."""
    ticks = torch.linspace(0, side, cells + 1).double().numpy()
    mesh = MeshTet.init_tensor(ticks, ticks, ticks)
    points, tets = with_mid_edge_nodes(mesh.p.T, turned_positive(mesh.p.T, mesh.t.T))
    return TetMesh(
        torch.from_numpy(points), torch.from_numpy(tets), torch.ones(len(tets)).long(), "box"
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_of_anisotropic_water_shows_the_slab_of_each_axis(axis):
    """D diagonal along the walls: across each pair the exact slab with that diffusivity."""
    values = (0.7, 1.5, 2.5)
    direction = torch.eye(3).double()[axis]
    pulses = Acquisition.pgse([0.5, 2.0, 4.0], direction.repeat(3, 1), 3.0, 12.0)
    material = Tissue.uniform(torch.diag(torch.tensor(values).double()))
    exact = slab(pulses, 4.0, values[axis], direction)
    basis = Basis(tolerance=1e-6)
    errors = [
        float((simulate_mesh(box(n), material, pulses, basis).attenuation[0] - exact).abs().max())
        for n in (2, 4)
    ]
    # Quadratic elements in straight walls: order 4 in signals, 2 um elements are not yet there.
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 2**3

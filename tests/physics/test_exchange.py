"""What a membrane does: nothing, a little, everything; and where it leaves the magnetisation."""

import math
from dataclasses import replace

import pytest
import torch
from bodies import cells

from spinmesh.bloch_torrey import Basis, reduce_mesh, simulate_compartments, step_signal
from spinmesh.bodies import simulate
from spinmesh.fem import assemble
from spinmesh.mesh import SweptDisk, TetMesh, nested_cylinder
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

FINE = Basis(tolerance=1e-7)


def core_and_shell():
    return nested_cylinder(SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=6.0), 1)


def pulses(b=(0.0, 1.0, 3.0), TE=None):
    direction = torch.tensor([[0.6, 0.0, 0.8]]).double().repeat(len(b), 1)
    return Acquisition.pgse(list(b), direction, 5.0, 20.0, TE=TE)


def parts(tissue, acquisition):
    """Each compartment's signal, to 1e-7 of the whole."""
    return simulate_compartments(
        reduce_mesh(core_and_shell(), tissue, acquisition, FINE).reduced, acquisition
    )


def alone(label):
    """One compartment of the mesh as a mesh of its own, labelled 1."""
    part = core_and_shell().part(label)
    return TetMesh(part.points, part.tets, torch.ones_like(part.compartment), "alone")


UNEQUAL = {"density": (0.5, 1.8), "t2": (30.0, 80.0), "diffusivity": (1.0, 2.5)}


def test_a_sealed_membrane_leaves_each_cell_its_own_signal():
    """Compartment by compartment, everything unequal: density scales, T2 damps, D diffuses."""
    acquisition = pulses()
    together = parts(cells(kappa=0.0, **UNEQUAL), acquisition)
    for i in range(2):
        filling = cells(*([UNEQUAL[name][i]] for name in ("diffusivity", "t2", "density")))
        apart = simulate(alone(i + 1), filling, acquisition, FINE).signal[0]
        # Both to 1e-7 of the whole unweighted signal.
        assert float((together[i] - apart).abs().max()) < 2e-7 * float(together.abs().sum(0).max())


def test_exchange_sets_in_linearly_and_is_complete_like_one_over_kappa():
    """Twice a small kappa exchanges twice as much; twice a large one halves what is missing."""
    acquisition, whole = pulses(), core_and_shell()
    merged = TetMesh(whole.points, whole.tets, torch.ones_like(whole.compartment), "merged")
    sealed = parts(cells(kappa=0.0), acquisition)
    little = [parts(cells(kappa=kappa), acquisition) - sealed for kappa in (5e-4, 1e-3)]
    # kappa t S/V = 1e-3 * 25 * 1 is how far from linear it is.
    assert torch.allclose(
        little[1], 2 * little[0], rtol=0.05, atol=1e-6 * float(sealed.abs().max())
    )
    single = simulate(merged, Tissue.uniform(2.0), acquisition, FINE).signal[0]
    much = [parts(cells(kappa=kappa), acquisition).sum(0) - single for kappa in (100.0, 200.0)]
    largest = [float(difference.abs().max()) for difference in much]
    # D/(kappa r) = 1e-2 is how far from its limit.
    assert largest[0] / largest[1] == pytest.approx(2.0, rel=0.05)


def test_equilibrium_of_unequal_densities_is_that_of_the_full_system_too():
    """Time stepping, no basis: without gradient every density stays where it is."""
    acquisition = pulses(b=(0.0,), TE=200.0)
    tissue = cells(kappa=0.3, density=UNEQUAL["density"])
    start = parts(tissue, acquisition)[:, 0].real
    stepped = step_signal(core_and_shell(), tissue, acquisition, 1e-9)
    # w = 1 is in the kernel of S + Q: the polynomial is 1 there to its tolerance.
    assert float(stepped.signals.signal.real) == pytest.approx(float(start.sum()), rel=1e-9)
    volumes = [float(assemble(alone(i), Tissue.uniform()).mass.sum()) for i in (1, 2)]
    expected = torch.tensor(volumes, dtype=torch.float64) * tissue.density
    # The propagator's 2.4e-10 of the whole, in each of three intervals.
    assert float((start - expected).abs().max()) < 1e-9 * float(expected.sum())


def test_magnetisation_of_one_compartment_ends_up_shared_by_density_times_volume():
    """Only the core is excited; with no relaxation the shares become those of the equilibrium.

    The flux kappa h (u'/rho' - u/rho) stops at equal u/rho, not at equal u.
    """
    acquisition = pulses(b=(0.0,), TE=2000.0)
    tissue = cells(kappa=0.3, density=UNEQUAL["density"])
    reduced = reduce_mesh(core_and_shell(), tissue, acquisition, FINE).reduced
    core, shell = reduced.mean
    amounts = reduced.mean @ reduced.initial
    for reader, share in ((core, amounts[0]), (shell, amounts[1])):
        # The excitation is the sum of the read-outs: here it is the core's.
        model = replace(reduced, mean=torch.stack([reader, core - reader]))
        signal = simulate_compartments(model, acquisition)[0, 0]
        # Exchange takes 1/(kappa S/V) of some ms, a thousandth of the echo time.
        assert float(signal.real) == pytest.approx(
            float(amounts[0] * share / amounts.sum()), rel=1e-7
        )


def test_relaxing_walls_decay_at_the_rate_of_their_surface():
    """Weak relaxivity, well mixed: S = exp(-kappa_out (A/V) TE), first order in kappa_out r/D."""
    mesh = alone(1)
    acquisition = pulses(b=(0.0,), TE=40.0)
    rates = []
    for wall in (1e-3, 2e-3):
        signal = simulate(mesh, cells((2.0,), wall=wall), acquisition, FINE)
        volume = simulate(mesh, Tissue.uniform(2.0), acquisition, FINE)
        rates.append(-math.log(float(signal.unweighted / volume.unweighted)) / (wall * 40.0))
    # A/V = 2/r + 2/h of the core (r 2, h 6 um); Richardson takes the first order in wall away, and
    # six curved sectors leave 1e-3 of the area.
    assert 2 * rates[0] - rates[1] == pytest.approx(2 / 2.0 + 2 / 6.0, rel=2e-3)

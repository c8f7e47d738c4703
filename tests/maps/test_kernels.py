"""Simulated kernels against exact solutions, and the laws by which one body stands for many."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinmesh.analytic import cylinder
from spinmesh.bloch_torrey import simulate_periodic
from spinmesh.errors import ConfigError
from spinmesh.maps import kernels as module
from spinmesh.maps import simulate_kernels
from spinmesh.mesh import SweptDisk, jacobian_determinants
from spinmesh.sequence import Acquisition
from spinmesh.settings.maps import TissueRanges
from spinmesh.tissue import Tissue
from tests.maps.conftest import ACQUISITION, NODES

COARSE = SweptDisk(rings=2, layers=6, radius_um=1.0, length_um=1.0)
ALONG = [[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]]


@pytest.mark.slow
def test_a_body_of_another_size_and_diffusivity_sees_other_times_and_gradients():
    """The Bloch-Torrey equation in units of s and s^2 / D: both ways to the basis' tolerance."""
    acquisition = Acquisition.joined(
        Acquisition.pgse([b] * 2, ALONG, 8.0, Delta) for b, Delta in ((1.0, 19.0), (3.0, 49.0))
    )
    size, diffusivity, tolerance = 1.7, 2.3, 1e-4
    scaled = module.axon_cell(0.4, 5.0, size, COARSE)
    whole = simulate_periodic(scaled, Tissue.uniform(diffusivity), acquisition, tolerance)
    seen = module._rescaled(acquisition, size, diffusivity)
    unit = simulate_periodic(
        module.axon_cell(0.4, 5.0, 1.0, COARSE), Tissue.uniform(1.0), seen, tolerance
    )
    torch.testing.assert_close(
        unit.signals.attenuation, whole.signals.attenuation, rtol=0, atol=2 * tolerance
    )


def test_the_radius_of_a_beaded_axon_is_weighted_by_volume():
    """<r^3>/<r^2> along z, by quadrature; and the volume of its mesh is that of the tube."""
    amplitude, z = 0.5, (np.arange(1000) + 0.5) / 1000
    r = module.mean_radius(1.0, amplitude) * (1 + amplitude * np.sin(2 * np.pi * z))
    assert (r**3).mean() / (r**2).mean() == pytest.approx(1.0, rel=1e-6)
    mesh = module.axon_cell(amplitude, 6.0)
    volume = jacobian_determinants(mesh.points, mesh.tets).mean(1).sum() / 6
    # The mean over the nodes is no exact quadrature of a curved tet.
    assert float(volume) == pytest.approx(6 * np.pi * (r**2).mean(), rel=5e-3)


@pytest.mark.slow
def test_kernels_of_straight_axons_are_those_of_a_cylinder():
    """At a node of size and diffusivity; the mesh's 36 sides and the basis' 3e-3 leave 3e-3."""
    tissue = TissueRanges(bead_amplitude=(0.0, 1e-4), radius_um=(1.9, 2.1))
    nodes = NODES.replace(size=1, diffusivity=1, packed_fraction=1, axons=6)
    found = simulate_kernels(ACQUISITION, tissue, nodes, 1)
    one = torch.ones(1, dtype=torch.float64)
    size = float(np.sqrt(1.9 * 2.1))
    coefficients = found.axons(size * one, 0 * one, 2.0 * one)[0]
    polar = module._polar(found.shells)
    exact = cylinder(polar, size, 2.0, [0.0, 0.0, 1.0]).reshape(1, 1, len(found.shells), -1)
    expected = module._expanded(exact)[0, 0]
    torch.testing.assert_close(coefficients[:, 0], expected[:, 0], rtol=0, atol=3e-3)
    # Of the water between axons that cover 42 % all is hindered across, none along.
    around = found.between(3 * one, 0.425 * one, 2.0 * one)[0]
    free_l2 = (polar.b_value.reshape(len(found.shells), -1)[:, 0] * 0 + around[:, 1]).sign()
    assert (around[:, 0] > 0).all() and (free_l2 < 0).all()


def test_shells_of_few_directions_are_refused_by_name():
    few = ACQUISITION.select(torch.arange(30))
    with pytest.raises(ConfigError, match=r"b = 1000 .* Delta = 19 ms has 24 directions; 28"):
        module.shells_of(few)


def test_polynomials_of_the_tissue_pass_through_the_nodes(kernels):
    tissue, one = kernels.tissue, torch.ones(1, dtype=torch.float64)
    sizes = np.exp(module._chebyshev(module._logarithms(tissue.radius_um), 2))
    rates = module._chebyshev(tissue.diffusivity_inside_um2_per_ms, 2)
    found = kernels.axons(float(sizes[1]) * one, 0.3 * one, float(rates[0]) * one)
    torch.testing.assert_close(found[0], kernels.coefficients[0, 1, 0], rtol=0, atol=1e-12)
    halves = replace(kernels, coefficients=kernels.coefficients / 2)
    again = halves.axons(1.3 * one, 0.3 * one, 2 * one)
    torch.testing.assert_close(2 * again, kernels.axons(1.3 * one, 0.3 * one, 2 * one))

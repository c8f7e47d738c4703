"""The derivative through the whole chain, from every unknown to the signal."""

import numpy as np
import pytest
import torch

from spinmesh.bloch_torrey import Basis, simulate_reduced, unweighted
from spinmesh.bodies import simulate
from spinmesh.errors import ConfigError
from spinmesh.inversion.forward import jacobian, predict, turned
from spinmesh.inversion.unknowns import Point, Unknowns
from spinmesh.mesh import (
    Substrates,
    SweptDisk,
    nested_cylinder,
    rotation_matrix,
    sample_substrates,
)
from spinmesh.reduction import project
from spinmesh.sequence import Acquisition, FreeWaveform
from spinmesh.settings import ShapeTraining
from spinmesh.settings.reconstruct import Free
from spinmesh.shapes import train_shape_model
from spinmesh.tissue import Tissue

TURN = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
LATENT = torch.tensor([0.4, -0.3, 0.2, 0.5], dtype=torch.float64)
FREE = (
    Free(quantity="diffusivity", compartments=(1,)),
    Free(quantity="t2", compartments=(2,)),
    Free(quantity="density", compartments=(2,)),
    Free(quantity="permeability", spread=0.5),
)
# A membrane that lets a good part of the water through in the 30 ms of an echo.
TWO = Tissue(
    (1, 2),
    torch.stack([2.0 * torch.eye(3), 1.5 * torch.eye(3)]).double(),
    torch.tensor([80.0, 40.0], dtype=torch.float64),
    torch.tensor([1.0, 0.8], dtype=torch.float64),
    {(1, 2): 0.05},
)


@pytest.fixture(scope="module")
def nested() -> Substrates:
    """Bent and beaded axons, each in its surrounding."""
    template = nested_cylinder(
        SweptDisk(rings=2, layers=4, radius_um=3.0, length_um=9.0, order=1), inner_rings=1
    )
    ranges = {
        "radius": (2.0, 4.0),
        "bend": (0.0, 0.2),
        "bend_direction": (0.0, 6.28),
        "twist": (0.0, 1.0),
        "bead_amplitude": (0.0, 0.3),
        "bead_phase": (0.0, 6.28),
    }
    split = {"train": 0.8, "validation": 0.2}
    return sample_substrates(template, {"bend_twist": 20, "beading": 20}, ranges, split, seed=1)


@pytest.fixture(scope="module")
def unknowns(nested: Substrates) -> Unknowns:
    """4 latent numbers, 3 of a turn, 4 of the tissue."""
    spec = ShapeTraining(latent=4, modes=40, scores=8, width=16, epochs=50)
    return Unknowns(train_shape_model(nested, spec, seed=0), TWO, FREE, turning=True)


@pytest.fixture(scope="module")
def point(unknowns: Unknowns) -> Point:
    physics = torch.tensor([0.2, -0.3, 0.4, 0.1], dtype=torch.float64)
    return Point(LATENT, rotation_matrix(TURN), physics)


@pytest.fixture(scope="module")
def mixed(acquisition: Acquisition) -> Acquisition:
    """Pulses, and a waveform that turns in three dimensions."""
    lobe = np.array([[1, 0, 0.2], [0, 1, 0.1], [-1, -1, -0.3], [0.3, 0, 0.5], [-0.3, 0, -0.5]])
    wave, _ = FreeWaveform.of(4.0, lobe)
    direction = torch.eye(3, dtype=torch.float64)[[0, 1, 2]]
    free = Acquisition.of(wave, torch.tensor([1.0, 2.0, 3.0]), direction)
    return Acquisition.joined([acquisition.select(slice(0, 61, 6)), free])


def test_jacobian_is_that_of_the_signal_on_the_frozen_span(unknowns, point, mixed):
    """Shape, turn, diffusivity, T2, density and permeability at once."""
    prediction = predict(unknowns, point, mixed, Basis(blocks=2))
    J = jacobian(unknowns, point, prediction, mixed)
    size = sum(unknowns.parts)
    assert J.shape == (len(mixed), size) and size == 11

    def frozen(step: torch.Tensor) -> torch.Tensor:
        there = unknowns.moved(point, step)
        shape, tissue = unknowns.shape(there), unknowns.tissue_at(there)
        reduced = turned(project(prediction.span, shape, tissue), there.rotation)
        return simulate_reduced(reduced, mixed).abs() / unweighted(reduced, mixed)

    h = 1e-4
    for k, direction in enumerate(torch.eye(size, dtype=torch.float64)):
        difference = (frozen(h * direction) - frozen(-h * direction)) / (2 * h)
        # h^2 f''' ~ 1e-8; the propagator's own 1e-10, divided by h, is ~1e-6.
        torch.testing.assert_close(J[:, k], difference, rtol=0, atol=5e-6)
        # Each unknown is seen: a column of zeros would agree with a broken chain.
        assert float(J[:, k].abs().max()) > 1e-4, k


def test_frozen_span_jacobian_is_that_of_fresh_spans(unknowns, point, mixed):
    basis = Basis(kind="krylov", degree=2, blocks=3)
    J = jacobian(unknowns, point, predict(unknowns, point, mixed, basis), mixed)
    h, direction = 1e-2, torch.ones(11, dtype=torch.float64)
    ahead, behind = (
        predict(unknowns, unknowns.moved(point, s * direction), mixed, basis).attenuation
        for s in (h, -h)
    )
    slope = (ahead - behind) / (2 * h)
    # simulator.md section 3 measured 1e-5 to 1e-4 relative for a frozen Krylov span of degree 3;
    # h^2 f''' of the difference adds ~1e-4.
    assert float((J @ direction - slope).norm() / slope.norm()) < 1e-3


def test_a_turned_point_is_a_turned_mesh(unknowns, point, mixed):
    """Moments turned in the reduced model against the mesh itself, turned, on its own span."""
    basis = Basis(kind="krylov", degree=3, blocks=3)
    predicted = predict(unknowns, point, mixed, basis).attenuation
    template = unknowns.model.basis.template
    mesh = template.with_points(unknowns.shape(point) @ point.rotation.T)
    direct = simulate(mesh, unknowns.tissue_at(point), mixed, basis).attenuation[0]
    # The monomials are scaled by a bounding box that turns too, which moves the span slightly.
    torch.testing.assert_close(predicted, direct, rtol=0, atol=1e-5)


def test_translation_and_point_reflection_are_invisible(unknowns, point, mixed):
    template, tissue = unknowns.model.basis.template, unknowns.tissue_at(point)
    points = unknowns.shape(point)
    basis = Basis(tolerance=1e-6)
    here = simulate(template.with_points(points), tissue, mixed, basis).attenuation
    shift = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    moved = simulate(template.with_points(points + shift), tissue, mixed, basis)
    torch.testing.assert_close(moved.attenuation, here, rtol=0, atol=5e-6)
    # Reflected tets have two corners swapped to keep their volumes positive.
    swapped = template.tets[:, [0, 2, 1, 3]]
    mirror = type(template)(-points, swapped, template.compartment, "mirror image")
    reflected = simulate(mirror, tissue, mixed, basis)
    # Each is within 1e-6 of its mesh's signal by estimate, two of them and a margin.
    torch.testing.assert_close(reflected.attenuation, here, rtol=0, atol=5e-6)
    # A mirror image in a plane is another shape, which the signal does see.
    plane = type(template)(points * torch.tensor([1.0, 1.0, -1.0]), swapped, template.compartment)
    other = simulate(plane, tissue, mixed, basis)
    assert float((other.attenuation - here).abs().max()) > 1e-3


def test_step_is_the_inverse_of_moving(unknowns, point):
    step = torch.linspace(-0.7, 0.8, 11, dtype=torch.float64)
    there = unknowns.moved(point, step)
    # Two exponential maps and a logarithm of a rotation: rounding only.
    torch.testing.assert_close(unknowns.step(point, there), step, rtol=0, atol=1e-12)
    assert unknowns.values(there)["permeability"] == pytest.approx(
        0.05 * float(torch.exp(0.5 * (point.physics[3] + step[10]))), rel=1e-12
    )


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (Free(quantity="permeability"), "no membrane of permeability > 0"),
        (Free(quantity="t2", compartments=(1,)), "is infinite"),
        (Free(quantity="density"), "divides out"),
        (Free(quantity="diffusivity", compartments=(7,)), "names compartment"),
    ],
)
def test_what_no_signal_can_tell_is_not_made_an_unknown(nested, unknowns, free, message):
    with pytest.raises(ConfigError, match=message):
        Unknowns(unknowns.model, Tissue.uniform(2.0, labels=(1, 2)), (free,), turning=False)


def test_a_tensor_does_not_turn_with_an_unknown_pose(unknowns):
    tensor = torch.diag(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    tissue = Tissue.uniform(tensor, labels=(1, 2))
    with pytest.raises(ConfigError, match="laboratory's frame"):
        Unknowns(unknowns.model, tissue, (), turning=True)
    Unknowns(unknowns.model, tissue, (), turning=False)

"""Gradients of signals: of the reduced operators, of the frozen span, of the whole chain.

A gradcheck on a frozen span proves that the derivative is the one of the function that is computed
there: node coordinates and tissue change, the basis does not. That this is also the derivative of
the signal (whose basis changes too) is an approximation, which the last tests measure.
"""

import itertools

import pytest
import torch
from bodies import axon
from torch.autograd import gradcheck
from torch.func import jacfwd, jacrev, jvp

from spinmesh.bloch_torrey import simulate_compartments, simulate_reduced, unweighted
from spinmesh.mesh import (
    SweptDisk,
    TetMesh,
    nested_cylinder,
    swept_disk,
)
from spinmesh.reduction import ReducedModel, krylov_span, laplace_span, project
from spinmesh.sequence import PGSE, Acquisition, FreeWaveform
from spinmesh.tissue import Tissue

# Signals are divided by the amount of magnetisation, so they are at most 1. With eps = 1e-5 third
# derivatives leave 1e-10 in a central difference and rounding (1e-13 in a signal) leaves 1e-8; the
# rest of atol is for the exponential's fit, 1e-10 in a signal, where it moves with the operators.
FINITE = {"eps": 1e-5, "atol": 1e-6, "rtol": 1e-5}


def cube():
    """Five tets: as symmetric as a tet mesh gets; threefold degenerate modes."""
    points = torch.tensor([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]).double() * 4
    tets = torch.tensor([[0, 4, 2, 1], [6, 2, 4, 7], [5, 1, 7, 4], [3, 7, 1, 2], [1, 2, 4, 7]])
    edge = points[tets[:, 1:]] - points[tets[:, :1]]
    negative = torch.linalg.det(edge) < 0
    tets = torch.where(negative[:, None], tets[:, [0, 2, 1, 3]], tets)
    return TetMesh(points, tets, torch.ones(5, dtype=torch.int64), "cube")


BODIES = {
    "cube": cube(),
    "cylinder": swept_disk(SweptDisk(rings=1, layers=1, radius_um=2.0, length_um=4.0)),
    "bent axon": axon(1, 2, 2.0, 6.0, bend=0.1, bend_direction=0.9, fan_angle=0.5),
    "two compartments": nested_cylinder(
        SweptDisk(rings=2, layers=1, radius_um=4.0, length_um=4.0), 1
    ),
}
# Largest relative distance of neighbouring modes that is called degenerate.
SYMMETRIC = {"cube": 1e-12, "cylinder": 1e-3}
SPANS = {
    "krylov": lambda mesh, tissue: krylov_span(mesh, tissue, 1, 1),
    "laplace": lambda mesh, tissue: laplace_span(mesh, tissue, 5),
}


def protocol():
    """PGSE along two directions, one of them twice, and a waveform with a complex signal."""
    direction = torch.tensor([[0.6, 0.0, 0.8], [0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]).double()
    waveform = FreeWaveform.of([1.0, 2.0, 3.0], [[3.0, 0, 1], [0, 1, -0.5], [-1, -2 / 3, 0]])[0]
    return Acquisition.joined(
        [
            Acquisition.pgse([0.5, 2.0, 2.0], direction, 3.0, 6.0),
            Acquisition.of(waveform, [2.0], [[0.0, 0, 1]]),
        ]
    )


# Entry (i, j) of a symmetric tensor from its six numbers xx, yy, zz, xy, xz, yz.
PLACE = torch.tensor([[0, 3, 4], [3, 1, 5], [4, 5, 2]])


def filled(count, scalar, tensor, t2, density, kappa, wall):
    """A tissue of `count` compartments from plain tensors: D = scalar 1 + tensor."""
    labels = tuple(range(1, count + 1))
    diffusivity = scalar[:, None, None] * torch.eye(3).double() + tensor[:, PLACE]
    return Tissue(
        labels,
        diffusivity,
        t2,
        density,
        {pair: kappa for pair in itertools.pairwise(labels)},
        {label: wall for label in labels},
    )


def values(body):
    """Unequal in every compartment; full tensors but where the body's modes shall be degenerate."""
    count = len(BODIES[body].labels)
    tensor = torch.tensor([[0.1, -0.2, 0.3, 0.2, -0.1, 0.15], [0.0, 0.4, 0.1, -0.3, 0.1, 0.2]])
    numbers = (
        torch.tensor([1.5, 2.0])[:count],
        tensor[:count] * (body not in SYMMETRIC),
        torch.tensor([30.0, 60.0])[:count],
        torch.tensor([0.7, 1.2])[:count],
        torch.tensor(0.2),
        torch.tensor(0.05),
    )
    return tuple(x.double() for x in numbers)


def frozen(body, basis):
    """Signals per volume, then their magnitudes, as a function of points and tissue numbers."""
    mesh, numbers, acquisition = BODIES[body], values(body), protocol()
    count = len(mesh.labels)
    span = SPANS[basis](mesh, filled(count, *numbers))
    reduced = project(span, mesh.points, filled(count, *numbers))
    scale = 1 / float(reduced.initial @ reduced.initial)

    def signals(points, *numbers):
        signal = scale * simulate_reduced(
            project(span, points, filled(count, *numbers)), acquisition
        )
        return torch.cat([signal, signal.abs().to(signal)])

    return signals, (mesh.points, *numbers)


@pytest.mark.parametrize("body", SYMMETRIC)
def test_modes_of_the_symmetric_bodies_are_degenerate(body):
    """What follows is hard there: the tets' diagonals split the cylinder's pairs by 5e-4, the
    cube's triples by rounding."""
    mesh = BODIES[body]
    tissue = Tissue.uniform(2.0)
    reduced = project(laplace_span(mesh, tissue, 5), mesh.points, tissue)
    rates = torch.linalg.eigvalsh(reduced.laplacian)[1:]
    assert float((rates.diff() / rates[1:]).min()) < SYMMETRIC[body]


@pytest.mark.parametrize(("body", "basis"), list(itertools.product(BODIES, SPANS)))
@pytest.mark.slow
def test_gradcheck_in_nodes_and_tissue(body, basis):
    """Both modes, in each of seven inputs along a random combination of its entries."""
    signals, inputs = frozen(body, basis)
    inputs = tuple(x.clone().requires_grad_() for x in inputs)
    assert gradcheck(
        signals, inputs, fast_mode=True, check_forward_ad=True, check_undefined_grad=False, **FINITE
    )


@pytest.mark.parametrize(
    ("body", "basis", "first"), [("cube", "laplace", 0), ("two compartments", "krylov", 1)]
)
def test_every_entry_of_the_jacobian_is_the_same_in_both_modes(body, basis, first):
    """gradcheck above judges combinations; here each entry, of the nodes (cube) and the tissue."""
    signals, inputs = frozen(body, basis)
    which = tuple(range(first, len(inputs)))
    by_mode = [mode(lambda *x: signals(*x).real, which)(*inputs) for mode in (jacfwd, jacrev)]
    for forward, reverse in zip(*by_mode, strict=True):
        # The two modes add the same terms in another order.
        assert torch.allclose(forward, reverse, rtol=1e-9, atol=1e-11)
    # The cube has no membrane; everything else is felt by some signal.
    felt = [float(forward.abs().max()) > 1e-5 for forward in by_mode[0]]
    assert felt.count(False) == (body == "cube")


SEQUENCES = {
    "pulses": PGSE(3.0, 8.0),
    "with dead time": PGSE(3.0, 8.0, TE=16.0),
    "not symmetric in time": FreeWaveform.of(
        [1.0, 2.0, 3.0], [[3.0, 0, 1], [0, 1, -0.5], [-1, -2 / 3, 0]]
    )[0],
}


def reduced_signals(name):
    """Compartments' signals and the unweighted one as real functions of L, J and mean.

    Only the symmetric part of an operator is asked for: the simulator may rely on symmetry.
    """
    direction = torch.tensor([[0.6, 0.0, 0.8], [0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]).double()
    acquisition = Acquisition.of(SEQUENCES[name], [0.5, 2.0, 2.0], direction)
    mesh, tissue = BODIES["two compartments"], filled(2, *values("two compartments"))
    start = project(laplace_span(mesh, tissue, 5), mesh.points, tissue)

    def signals(laplacian, moments, mean):
        model = ReducedModel((laplacian + laplacian.mT) / 2, (moments + moments.mT) / 2, mean)
        complex_signals = simulate_compartments(model, acquisition).flatten()
        return torch.cat(
            [complex_signals.real, complex_signals.imag, unweighted(model, acquisition)]
        )

    return signals, (start.laplacian, start.moments, start.mean)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with dead time", "not symmetric in time"])
def test_jacfwd_jacrev_jvp_and_differences_agree_on_the_reduced_part(name):
    signals, inputs = reduced_signals(name)
    forward, reverse = (mode(signals, (0, 1, 2))(*inputs) for mode in (jacfwd, jacrev))
    scale = float(signals(*inputs).abs().max())
    generator = torch.Generator().manual_seed(0)
    tangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in inputs]
    for number, tangent in enumerate(tangents):
        # The modes add the same terms in another order.
        assert torch.allclose(forward[number], reverse[number], rtol=1e-8, atol=1e-10 * scale)

        def along(step, number=number, tangent=tangent):
            moved = [x + step * tangent if i == number else x for i, x in enumerate(inputs)]
            return signals(*moved)

        step = torch.zeros((), dtype=torch.float64)
        _, slope = jvp(along, (step,), (torch.ones_like(step),))
        entries = (forward[number] * tangent).flatten(1).sum(1)
        assert torch.allclose(entries, slope, rtol=1e-8, atol=1e-10 * scale)
        # Third derivatives leave 1e-7 of the slope; the fit (1e-10) moves by far less than itself.
        difference = (along(step + 1e-5) - along(step - 1e-5)) / 2e-5
        assert torch.allclose(slope, difference, rtol=1e-6, atol=1e-7 * scale)


def test_slopes_of_many_models_are_those_of_each():
    """A batch of materials and sizes on one span, along the first axis of the operators."""
    _, inputs = reduced_signals("pulses")
    factors = torch.tensor([0.5, 1.0, 2.0]).double()

    def scaled(factor):
        power = (factor, factor.sqrt(), factor.sqrt())
        return [x * f.reshape(f.shape + (1,) * x.ndim) for f, x in zip(power, inputs, strict=True)]

    def total(*operators):
        laplacian, moments, mean = operators
        return simulate_reduced(ReducedModel(laplacian, moments, mean), protocol())

    batch, slopes = jvp(lambda f: total(*scaled(f)), (factors,), (torch.ones_like(factors),))
    for factor, together, slope in zip(factors, batch, slopes, strict=True):
        alone = jvp(lambda f: total(*scaled(f)), (factor,), (torch.ones_like(factor),))
        # A batch shares its polynomials, each of which is good to 1e-10 per step.
        for one, other in zip((together, slope), alone, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-8 * float(other.abs().max()))


INPUTS = ("nodes", "diffusivity", "tensor", "t2", "density", "permeability", "wall")


def smooth_motion(points):
    """A bend, a shear and a stretch that no polynomial of low degree undoes."""
    x, _, z = points.T
    bend = 0.1 * x * torch.sin(0.3 * z) + 0.3 * torch.cos(0.4 * z)
    return torch.stack([bend, 0.01 * x * z, 0.1 * z], 1)


def moved(name, step):
    """Mesh and tissue after `step` along a direction of one input of the nested cylinder."""
    mesh = nested_cylinder(SweptDisk(rings=2, layers=2, radius_um=4.0, length_um=8.0), 1)
    inputs = [mesh.points, *values("two compartments")]
    number = INPUTS.index(name)
    direction = smooth_motion(mesh.points) if number == 0 else inputs[number].abs() + 0.1
    inputs[number] = inputs[number] + step * direction
    return mesh.with_points(inputs[0]), filled(2, *inputs[1:])


def slope_on_frozen_span(span, name):
    def signals(step):
        mesh, tissue = moved(name, step)
        return torch.view_as_real(simulate_reduced(project(span, mesh.points, tissue), protocol()))

    step = torch.zeros((), dtype=torch.float64)
    return jvp(signals, (step,), (torch.ones_like(step),))[1]


@pytest.fixture(scope="module")
def fresh_slopes():
    """Central differences of the signal on a rich span that is built anew at either end."""

    def signals(name, step):
        mesh, tissue = moved(name, step)
        reduced = project(krylov_span(mesh, tissue, 3, 4), mesh.points, tissue)
        return torch.view_as_real(simulate_reduced(reduced, protocol()))

    return {n: (signals(n, 1e-3) - signals(n, -1e-3)) / 2e-3 for n in INPUTS}


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda mesh, tissue, degree: krylov_span(mesh, tissue, degree, 1), (1, 2, 3)),
        (laplace_span, (10, 30, 90)),
    ],
    ids=SPANS,
)
def test_frozen_span_gradient_becomes_the_total_one_as_the_basis_grows(make, sizes, fresh_slopes):
    """16, 40, 80 Krylov or 10, 30, 90 Laplace functions: 10 to 30 %, some %, below 1 %.

    In nodes and every property of the tissue. The largest bases were off by 5e-3 (tensor, Krylov)
    and 2e-3 (permeability, Laplace), 55 times and more less than the smallest.
    """
    mesh, tissue = moved("nodes", 0.0)
    spans = [make(mesh, tissue, size) for size in sizes]
    for name, exact in fresh_slopes.items():
        errors = [
            float((slope_on_frozen_span(span, name) - exact).abs().max() / exact.abs().max())
            for span in spans
        ]
        assert errors[0] > errors[1] > errors[2], name
        assert errors[2] < min(1e-2, errors[0] / 30), name

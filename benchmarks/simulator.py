"""The simulator against its targets, side by side in one run: `python benchmarks/simulator.py`.

CPU seconds of this process on one thread; the machine drifts, so read the ratios. The targets are
those that issue 3 states.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable

import torch

from spinmesh.analytic import cylinder, sphere
from spinmesh.bloch_torrey import Basis, simulate, simulate_mesh
from spinmesh.mesh import (
    PARAMETERS,
    SweptDisk,
    TetMesh,
    ball,
    deform,
    neutral_parameters,
    swept_disk,
)
from spinmesh.reduction import krylov_span, project
from spinmesh.sequence import Acquisition
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of one call, after one that warms up."""
    work()
    start = time.process_time()
    work()
    return time.process_time() - start


def directions(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def axon(length: float, layers: int, order: int = 2) -> TetMesh:
    """A bent, beaded axon of radius 1 um."""
    template = swept_disk(SweptDisk(2, layers, 1.0, length, order))
    parameters = neutral_parameters(template)
    for name, value in {"bend": 0.3, "bead_amplitude": 0.25, "bead_count": length / 8}.items():
        parameters[PARAMETERS.index(name)] = value
    return template.with_points(deform(template, parameters), f"axon of {length:g} um")


def exact_bodies() -> None:
    """Sphere and cylinder against their exact signals, everything from the mesh on."""
    print("\nexact bodies, PGSE 10/40 ms, b to 8,000 s/mm^2      target: 1e-4 within 1 CPU s")
    b = torch.linspace(0.5, 8, 8).repeat(3).double()
    axes = torch.eye(3).double().repeat_interleave(8, 0)
    acquisition = Acquisition.pgse(b, axes, 10.0, 40.0)
    across = acquisition.select(slice(0, 16))
    z = torch.tensor([0.0, 0, 1]).double()
    cases = [
        (
            f"sphere r 5, {len(mesh.points):,} nodes",
            mesh,
            acquisition,
            sphere(acquisition, 5.0, 2.0),
        )
        for mesh in (ball(5.0, 2), ball(5.0, 3))
    ] + [
        (f"cylinder r 2 across, {rings} rings", mesh, across, cylinder(across, 2.0, 2.0, z))
        for rings in (2, 3, 4)
        for mesh in (swept_disk(SweptDisk(rings, 2, 2.0, 4.0)),)
    ]
    for name, mesh, measured, exact in cases:
        error = (simulate_mesh(mesh, TISSUE, measured).attenuation[0] - exact).abs().max()
        seconds = cpu(lambda m=mesh, a=measured: simulate_mesh(m, TISSUE, a))
        print(f"  {name:<32} error {float(error):8.1e}   {seconds:6.2f} s")


def krylov_against_laplace() -> None:
    """Two bases on the same meshes, against 400 eigenfunctions of the same mesh."""
    print(
        "\nKrylov against Laplace on one mesh                  target: 8x less CPU at equal error"
    )
    b = torch.linspace(0, 10, 60).double()
    acquisition = Acquisition.pgse(b, directions(60), 8.0, 30.0)
    for mesh in (axon(20.0, 10), axon(100.0, 40)):
        fine = simulate_mesh(mesh, TISSUE, acquisition, Basis(degree=4, blocks=8))
        scale = float(fine.unweighted[0, 0])
        print(f"  {mesh.name}, {len(mesh.points):,} nodes")
        for basis in (
            Basis(degree=2, blocks=2),
            Basis(degree=2, blocks=3),
            Basis(degree=3, blocks=3),
            Basis("laplace", modes=40),
            Basis("laplace", modes=120),
            Basis("laplace", modes=250),
        ):
            signal = simulate_mesh(mesh, TISSUE, acquisition, basis).signal
            error = float((signal - fine.signal).abs().max()) / scale
            seconds = cpu(lambda m=mesh, s=basis: simulate_mesh(m, TISSUE, acquisition, s))
            size = (
                f"modes {basis.modes}"
                if basis.kind == "laplace"
                else (f"degree {basis.degree}, blocks {basis.blocks}")
            )
            print(f"    {basis.kind:<8} {size:<20} error {error:8.1e}   {seconds:6.2f} s")


def published_protocol() -> None:
    """ReMiDi's 1,890 signals and the gradient of a misfit with respect to every coordinate."""
    print("\n1,890 signals and their gradient in all coordinates    target: 1.2 CPU s, error 1e-6")
    mesh = swept_disk(SweptDisk(2, 16, 3.0, 9.0, order=1))
    b = torch.arange(0, 10.5, 0.5).double()
    grid = torch.cartesian_prod(torch.tensor([10.0, 25.0, 50.0]).double(), b)
    Delta, b = (grid[:, i].repeat_interleave(30) for i in (0, 1))
    acquisition = Acquisition.pgse(b, directions(30).repeat(63, 1), 5.0, Delta)
    fine = simulate_mesh(mesh, TISSUE, acquisition, Basis(degree=4, blocks=5))
    for degree, blocks in ((2, 3), (3, 2), (3, 3)):
        points = mesh.points.clone().requires_grad_()

        def work(degree=degree, blocks=blocks, points=points) -> torch.Tensor:
            span = krylov_span(mesh, TISSUE, degree, blocks)
            signal = simulate(project(span, points, TISSUE), acquisition)
            points.grad = None
            signal.abs().square().sum().backward()
            return signal.detach()

        error = (work() - fine.signal[0]).abs().max() / fine.unweighted[0, 0]
        print(
            f"  {len(mesh.points)} vertices, {len(mesh.tets):,} tets, degree {degree}, blocks "
            f"{blocks}: error {float(error):8.1e}   {cpu(work):6.2f} s"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    exact_bodies()
    krylov_against_laplace()
    published_protocol()

"""Find the shape of an axon and how leaky its membrane is, from one signal.

python examples/5_permeable_axon.py
"""

import torch

import spinmesh


def main() -> tuple[float, float]:
    """Relative error of the axon's volume, and error of the permeability in its own spread."""
    # An axon (compartment 1) in its surrounding (2); both are deformed together.
    size = {"radius_um": 6.0, "length_um": 16.0}
    template = spinmesh.nested_cylinder(
        spinmesh.SweptDisk(rings=2, layers=4, **size), inner_rings=1
    )
    ranges = {
        "radius": (4.0, 8.0),
        "bend": (0.0, 0.15),
        "bend_direction": (0.0, 6.28),
        "bead_amplitude": (0.0, 0.3),
        "bead_phase": (0.0, 6.28),
    }
    families = {"straight": 20, "bend_twist": 40, "beading": 40}
    table = spinmesh.sample_substrates(template, families, ranges, {"train": 1.0}, seed=1)
    spec = spinmesh.ShapeTraining(kind="pca", latent=5, modes=60, scores=5, width=8, epochs=1)
    model = spinmesh.train_shape_model(table, spec, seed=1)

    def water(permeability: float) -> spinmesh.Tissue:
        free = spinmesh.Tissue.uniform(2.0, labels=(1, 2))
        return spinmesh.Tissue(
            free.labels, free.diffusivity, free.t2, free.density, {(1, 2): permeability}
        )

    # Short and long diffusion times tell exchange from restriction. SNR 100.
    generator = torch.Generator().manual_seed(1)
    direction = torch.nn.functional.normalize(torch.randn((15, 3), generator=generator).double())
    b = torch.tensor([1.0, 3.0]).repeat_interleave(15).repeat(2)
    Delta = torch.tensor([12.0, 50.0]).repeat_interleave(30)
    acquisition = spinmesh.Acquisition.pgse(b, direction.repeat(4, 1), delta=6.0, Delta=Delta)
    fine = spinmesh.nested_cylinder(spinmesh.SweptDisk(rings=4, layers=6, **size), inner_rings=2)
    truth = spinmesh.single_substrate(fine, {"radius": 5.2, "bend": 0.08})
    target = spinmesh.simulate_target(
        truth.mesh(0), water(0.05), acquisition, spinmesh.Basis(tolerance=1e-4), snr=100.0, seed=1
    )

    # A priori the permeability is 0.1 um/ms to within a factor of two.
    how = spinmesh.Reconstruct(
        free=(spinmesh.Free(quantity="permeability", compartments=(1, 2), spread=0.7),),
        iterations=12,
        starts=1,
    )
    result = spinmesh.reconstruct(target, model, water(0.1), how, seed=1)
    found = result.fit.free["permeability 1-2"]
    spread = float(result.posterior.samples.physics.std())
    print(f"permeability {found:.3f} +- {spread:.3f} um/ms, true 0.050")
    own, true = (_axon_volume(mesh) for mesh in (result.mesh, truth.mesh(0)))
    return own / true - 1, (found - 0.05) / spread


def _axon_volume(mesh: spinmesh.TetMesh) -> float:
    """Of compartment 1 (um^3); the element map's mean determinant over nodes is its volume."""
    inside = mesh.compartment == 1
    return float(spinmesh.jacobian_determinants(mesh.points, mesh.tets)[inside].mean(1).sum() / 6)


if __name__ == "__main__":
    print("the axon's volume is off by {:.1%}, the permeability by {:.1f} spreads".format(*main()))

"""Shape and permeability come back together, on a small version of the experiment."""

import csv
from collections.abc import Callable
from typing import Any

import pytest
import torch

import spinmesh
from experiments.permeable_axon import study
from spinmesh.bodies import simulate


def test_the_outer_wall_has_no_beads_and_the_axon_has_its_own_radius():
    mesh = study.template(2, 3)
    table = study.drawn(mesh, "beading", 1, seed=5)
    values = dict(zip(table.names, table.parameters[0].tolist(), strict=True))
    radius, before = (x[:, :2].norm(dim=1) for x in (table.points[0], mesh.points))
    wall = before > study.OUTER - 1e-9
    # Moved along rays only: rounding.
    assert torch.allclose(radius[wall], radius.new_tensor(values["radius"]), rtol=1e-12)
    membrane = radius[(before - study.MEMBRANE).abs() < 1e-9] / values["radius"]
    low, high = study.MEMBRANES
    amplitude = values["bead_amplitude"]
    assert low * (1 - amplitude) < float(membrane.min()) < float(membrane.max())
    assert float(membrane.max()) < high * (1 + amplitude)
    assert float(membrane.max() - membrane.min()) > 0.5 * low * amplitude


@pytest.mark.slow
def test_shape_and_permeability_come_back_together():
    """From the mean shape and twice the permeability, on one mesh and basis, at SNR 200."""
    model = study.shape_model(study.template(2, 3), per_family=8, latent=5)
    generator = torch.Generator().manual_seed(3)
    y = 1.2 * torch.randn(5, generator=generator, dtype=torch.float64)
    points = model.decode(y)
    truth, kappa = model.basis.template.with_points(points), study.KAPPA / 2
    acquisition, basis = study.protocol(), spinmesh.Basis(blocks=1)
    clean = simulate(truth, study.water(kappa), acquisition, basis).attenuation[0]
    seen = spinmesh.Target(acquisition, clean).noisy(200.0, generator)
    how = study.reconstruction().replace(starts=1, iterations=10, basis=basis)
    result = spinmesh.reconstruct(seen, model, study.water(study.KAPPA), how, seed=0)
    row = study.scores(result, model, points, kappa)
    # Measured 0.057 of 0.144 um and 0.0247 of 0.025 um/ms, spread 0.0009. With the membrane's part
    # of the Jacobian left out the permeability stays where it starts, at 0.05.
    assert row["axon_error"] < 0.5 * row["axon_error_mean_shape"]
    assert row["permeability"] == pytest.approx(kappa, rel=0.15)


@pytest.mark.slow
def test_the_tiny_experiment_runs(new_workspace: Callable[[], Any]):
    workspace, folder = new_workspace(), "experiments/permeable_axon"
    done = workspace.snakemake("--snakefile", f"{folder}/Snakefile", config=f"{folder}/tiny.yaml")
    assert done.returncode == 0, done.stdout
    with open(workspace.root / "results/permeable_axon_tiny/permeable_axon.csv") as file:
        (row,) = csv.DictReader(file)
    assert row["family"] == "bend_twist" and float(row["permeability"]) > 0

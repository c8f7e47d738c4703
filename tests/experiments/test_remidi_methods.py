"""The published experiment: its metric, baselines, pose search and shape model."""

import math

import pytest
import torch
from bodies import two_shells

from experiments.remidi.ablations import ABLATIONS, cases, with_directions, with_times
from experiments.remidi.baselines import train_signal_network
from experiments.remidi.estimates import Estimates, Score, summarise_scores
from experiments.remidi.methods import Arm, Bench, chosen, estimate
from experiments.remidi.metric import chamfer_distances, modified_chamfer_distance
from experiments.remidi.settings import Experiment
from experiments.remidi.shapes import further_parameters, published_substrates
from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import simulate_substrates
from spinmesh.errors import ConfigError, MeshError
from spinmesh.inversion import Target
from spinmesh.mesh import (
    Substrates,
    SweptDisk,
    TetMesh,
    rotation_matrix,
    swept_disk,
)
from spinmesh.sequence import Acquisition
from spinmesh.settings import Reconstruct, ShapeTraining
from spinmesh.shapes import (
    ShapeModel,
    aligned_chamfer_distance,
    chamfer_distance,
    spectral_basis,
    train_shape_model,
)
from spinmesh.tissue import Tissue

BASIS = Basis(degree=1, blocks=1)


@pytest.fixture(scope="module")
def table() -> Substrates:
    """Forty published shapes on a coarse template of straight tets."""
    template = swept_disk(SweptDisk(rings=1, layers=8, radius_um=3.0, length_um=9.0, order=1))
    counts = {"bend_twist": (14, 2, 2), "fanning": (14, 2, 2)}
    return published_substrates(template, counts, "between", seed=2)


@pytest.fixture(scope="module")
def acquisition() -> Acquisition:
    return two_shells()


@pytest.fixture(scope="module")
def signals(table: Substrates, acquisition: Acquisition) -> Signals:
    return simulate_substrates(table, Tissue.uniform(2.0), acquisition, BASIS)


@pytest.fixture(scope="module")
def model(table: Substrates) -> ShapeModel:
    spec = ShapeTraining(kind="pca", latent=5, modes=60, scores=8, epochs=1, width=8)
    return train_shape_model(table, spec, seed=0)


def cube(points: list[list[float]]) -> TetMesh:
    """A mesh of one tet, for metrics that see vertices only."""
    corners = torch.tensor(points, dtype=torch.float64)
    return TetMesh(corners, torch.tensor([[0, 1, 2, 3]]), torch.ones(1).long())


def test_published_metric_by_hand():
    """A corner moved by 0.3 along its own axis: both clouds keep their bounding-box centres apart.

    Centres move by 0.15, so the moved corner is 0.15 off and the other three 0.15 as well.
    """
    corners = [[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 5]]
    moved = [[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 5.3]]
    distance = modified_chamfer_distance(cube(corners), cube(moved))
    assert distance == pytest.approx(0.15, abs=1e-12)
    # Half a turn about x takes the inverted corner to where the turned one is.
    turned = [[0.0, 0, 0], [2, 0, 0], [0, -3, 0], [0, 0, -5]]
    assert modified_chamfer_distance(cube(corners), cube(turned)) < 1e-12


def test_published_metric_is_the_least_over_all_its_turns(table: Substrates):
    """One after another, where the metric itself leaves out turns that cannot be the best."""
    for i, k in ((0, 20), (3, 9)):
        clouds = [table.mesh(n).points[table.mesh(n).vertices] for n in (i, k)]
        moving, fixed = (c - (c.amax(0) + c.amin(0)) / 2 for c in clouds)
        least = min(
            chamfer_distance(sign * moving @ rotation_matrix(axis * angle).T, fixed)
            for axis in torch.eye(3, dtype=torch.float64)
            for angle in torch.arange(24) * math.pi / 12
            for sign in (1, -1)
        )
        assert modified_chamfer_distance(table.mesh(i), table.mesh(k)) == pytest.approx(least)


def test_aligned_metric_forgives_any_rotation(table: Substrates):
    mesh = table.mesh(0)
    turn = rotation_matrix(torch.tensor([0.11, -0.07, 0.2], dtype=torch.float64))
    moved = mesh.with_points(mesh.points @ turn.T + 2.0)
    # Corresponding vertices are brought together exactly.
    assert aligned_chamfer_distance(moved, mesh) < 1e-9
    assert modified_chamfer_distance(moved, mesh) > 0.1
    other = table.mesh(20)
    published, aligned = chamfer_distances(other, mesh)
    assert 0.01 < aligned <= published == modified_chamfer_distance(other, mesh)


def test_signal_network_beats_the_mean_shape(table: Substrates, signals: Signals):
    """On the shapes it learned from, which the mean shape knows as well."""
    basis = spectral_basis(table.template, 40, 2)
    network = train_signal_network(table, signals, basis, seed=0)
    index = [i for i, split in enumerate(table.split) if split == "train"]
    mean = table.points[index].mean(0)
    found = torch.stack(
        [network.points(Target(signals.acquisition, signals.attenuation[i])) for i in index]
    )
    error = (found - table.points[index]).square().sum(-1).mean().sqrt()
    assert float(error) < 0.5 * float((mean - table.points[index]).square().sum(-1).mean().sqrt())


def test_variational_model_beats_the_mean_shape_and_ignores_unneeded_latents(table: Substrates):
    spec = ShapeTraining(
        kind="variational", latent=8, modes=80, scores=24, width=64, epochs=60, learning_rate=3e-3
    )
    further = further_parameters(table.template, 400, "between", seed=2)
    model = train_shape_model(table, spec, 0, further)
    assert model.errors["decoder"] < 0.35 * model.errors["mean_shape"]
    # Sixty epochs do not reach the final sharpness; the point is that z is a standard normal.
    z = model.encode(table.points[:3])
    velocity = torch.func.jvp(model.decode, (z[0],), (torch.eye(8).double()[0],))[1]
    step = 1e-6 * torch.eye(8).double()[0]
    slope = (model.decode(z[0] + step) - model.decode(z[0] - step)) / 2e-6
    # Central differences of a smooth decoder: 1e-12 of curvature, 1e-9 of rounding.
    torch.testing.assert_close(velocity, slope, rtol=0, atol=1e-7)


def test_shapes_of_all_families_take_turns(table: Substrates):
    order = chosen(table.select("test"), 2)
    assert [table.select("test").family[i] for i in order] == ["bend_twist", "fanning"] * 2
    assert len(chosen(table, None)) == len(table)


def test_nearest_signal_to_a_training_shape_is_its_own(
    table: Substrates, acquisition: Acquisition, signals: Signals
):
    """The held-out table is the training table: nearest must return each shape itself."""
    pca = ShapeTraining(kind="pca", latent=3, modes=40, scores=6, width=8, epochs=40)
    model = train_shape_model(table, pca, 0)
    spec = Reconstruct(pose="unknown")
    bench = Bench(model, model, table, signals, Tissue.uniform(2.0), spec, 1, 0)
    index = model.training.nonzero()[:2, 0].tolist()
    own = Signals(acquisition, signals.signal[index], signals.unweighted[index])
    found = estimate(bench, Arm("nearest", math.inf), table.take(index), own, 0, 1)
    for points, truth in zip(found.points, found.truth, strict=True):
        meshes = (table.template.with_points(p) for p in (points, truth))
        # The pose is refined in small turns, of which the metric knows nothing.
        assert aligned_chamfer_distance(*meshes) < 1e-9
    with pytest.raises(ConfigError, match="unknown method 'guess'"):
        estimate(bench, Arm("guess", math.inf), table.take(index), own, 0, 1)


def test_summary_relates_each_method_to_the_mean_shape_of_the_same_shapes():
    def row(method: str, snr: float, label: str, error: float) -> Score:
        return Score(method, snr, "beading", label, 2 * error, error, error / 2, 0.0, 1.0, 2.0)

    found = summarise_scores(
        [
            row("mean_shape", math.inf, "a", 1.0),
            row("mean_shape", math.inf, "b", 3.0),
            row("ours", 50.0, "a", 0.1),
        ]
    )
    ours = found[-1]
    assert ours["ratio_to_mean_shape"] == pytest.approx(0.1)
    assert ours["published_median_um"] == pytest.approx(0.2)
    assert found[0]["aligned_mean_um"] == pytest.approx(2.0)


def test_estimates_refuse_columns_of_different_length():
    points, two = torch.zeros(2, 4, 3).double(), torch.zeros(2).double()
    with pytest.raises(MeshError, match="columns of lengths"):
        Estimates("x", math.inf, ("beading",), ("a", "b"), points, points, two, two)


@pytest.mark.parametrize("count", [3, 15, 30, 60])
def test_ablations_keep_whole_shells_of_so_many_directions(acquisition: Acquisition, count: int):
    fewer = with_directions(acquisition, count)
    shell = (fewer.b_value - 3.0).abs() < 1e-6
    assert int(shell.sum()) == 2 * count


def test_ablation_of_times_measures_the_same_shells_at_each(acquisition: Acquisition):
    measured = with_times(acquisition, (5.0, 20.0))
    assert len(measured) == 2 * int((acquisition.durations("Delta") == 10.0).sum())
    assert sorted(set(measured.durations("Delta").tolist())) == [5.0, 20.0]


def test_ablations_are_those_of_the_publication(acquisition: Acquisition):
    assert {name: len(cases(name, acquisition)) for name in ABLATIONS} == {
        "bend_twist": 8,
        "beads": 5,
        "fans": 4,
        "directions": 12,
        "times": 12,
    }


def test_no_job_of_the_experiment_is_empty() -> None:
    """Three shapes of each family make three jobs; every job of an arm knows how many there are."""
    jobs = Experiment(few=3, chunks=10).jobs()
    assert "gauss_newton-snr50/9-of-10" in jobs
    assert "adamw-snrinf/2-of-3" in jobs and "adamw-snrinf/3-of-10" not in jobs
    assert "from_truth-snrinf/1-of-2" in Experiment(few=3, chunks=2).jobs()
    assert len(jobs) == len(set(jobs))

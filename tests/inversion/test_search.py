"""A search that is killed goes on as if it had not been."""

from dataclasses import replace

import pytest
import torch

from spinmesh.bloch_torrey import Basis
from spinmesh.bodies import simulate
from spinmesh.errors import StoreError
from spinmesh.inversion import Target, descent, reconstruct
from spinmesh.inversion import search as search_module
from spinmesh.inversion.search import FEW, Search
from spinmesh.learning import Checkpoint
from spinmesh.mesh import rotation_matrix
from spinmesh.sequence import Acquisition
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

TISSUE = Tissue.uniform(2.0)
# A coarse basis: what is compared here is one run with another.
SETTINGS = Reconstruct(
    pose="unknown",
    starts=2,
    scouts=1,
    iterations=2,
    modes=2,
    samples=3,
    moves=1,
    basis=Basis(blocks=1),
)


class KilledError(Exception):
    """Stands for the scheduler's signal."""


@pytest.fixture(scope="module")
def target(model: ShapeModel, acquisition: Acquisition) -> Target:
    """A turned training shape, with a little noise."""
    turn = rotation_matrix(torch.tensor([0.5, 0.2, -0.4], dtype=torch.float64))
    mesh = model.basis.template.with_points(model.decode(model.latents[2]) @ turn.T)
    clean = Target(acquisition, simulate(mesh, TISSUE, acquisition).attenuation[0])
    return clean.noisy(100.0, torch.Generator().manual_seed(0))


def killed_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `improve` be called so many times, then no more."""
    calls, real = [0], search_module.improve

    def improve(*arguments):
        calls[0] += 1
        if calls[0] > count:
            raise KilledError
        return real(*arguments)

    monkeypatch.setattr(search_module, "improve", improve)


@pytest.mark.slow
def test_resumed_run_is_the_uninterrupted_one(target, model, tmp_path, monkeypatch):
    """Killed once while scouting and once later; compared digit by digit."""
    whole = reconstruct(target, model, TISSUE, SETTINGS, seed=3)
    file = tmp_path / "deep" / "search.checkpoint"
    for count in (1, 2):
        with monkeypatch.context() as patch:
            killed_after(count, patch)
            with pytest.raises(KilledError):
                reconstruct(target, model, TISSUE, SETTINGS, seed=3, checkpoint=file)
        assert file.is_file()
    resumed = reconstruct(target, model, TISSUE, SETTINGS, seed=3, checkpoint=file)
    assert not file.exists()
    assert torch.equal(resumed.mesh.points, whole.mesh.points)
    assert torch.equal(resumed.rotation, whole.rotation)
    assert torch.equal(resumed.history, whole.history)
    assert torch.equal(resumed.posterior.latent.covariance, whole.posterior.latent.covariance)
    assert torch.equal(resumed.posterior.samples.z, whole.posterior.samples.z)
    assert torch.equal(resumed.fit.chi2, whole.fit.chi2)


@pytest.mark.slow
def test_checkpoint_of_another_search_is_refused(target, model, tmp_path, monkeypatch):
    file = tmp_path / "search.checkpoint"
    with monkeypatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(KilledError):
            reconstruct(target, model, TISSUE, SETTINGS, seed=3, checkpoint=file)
    before = file.read_bytes()
    other = replace(target, attenuation=0.999 * target.attenuation)
    changes = [
        (other, TISSUE, SETTINGS, 3),
        (target, Tissue.uniform(1.9), SETTINGS, 3),
        (target, TISSUE, SETTINGS.replace(noise_floor=2e-3), 3),
        (target, TISSUE, SETTINGS, 4),
    ]
    for measured, tissue, settings, seed in changes:
        with pytest.raises(StoreError, match="another run"):
            reconstruct(measured, model, tissue, settings, seed, checkpoint=file)
    assert file.read_bytes() == before
    file.write_bytes(b"torn")
    with pytest.raises(StoreError, match="cannot be read as checkpoint"):
        reconstruct(target, model, TISSUE, SETTINGS, seed=3, checkpoint=file)


def test_many_measurements_are_searched_with_few_first(target, model):
    many = torch.arange(len(target.acquisition)).repeat(8)
    larger = Target(target.acquisition.select(many), target.attenuation[many], target.sigma)
    problem = search_module.Problem.of(larger, model, TISSUE, SETTINGS)
    search = Search(problem, Checkpoint(None))
    assert len(search.fewer.target.acquisition) == FEW
    small = search_module.Problem.of(target, model, TISSUE, SETTINGS)
    assert Search(small, Checkpoint(None)).fewer is small


@pytest.mark.slow
def test_patience_ends_a_search_when_steps_in_a_row_gain_next_to_nothing(
    target, model, monkeypatch
):
    """A hundredth of a measurement's worth is little here, and no step is too small to be taken."""
    monkeypatch.setattr(descent, "LITTLE", 1e7)
    settings = SETTINGS.replace(pose="known", tolerance=1e-9, patience=2)
    problem = search_module.Problem.of(target, model, TISSUE, settings)
    state = problem.state(problem.unknowns.point(torch.zeros(7, dtype=torch.float64)))
    gains = []
    while not state.converged:
        noise = problem.stage_noise(state)
        after = descent.improve(problem, state, lambda *trial: None)
        gains.append(problem.cost(state, noise) - problem.cost(after, noise))
        little = gains[-1] < 1e-2 * max(problem.cost(state, noise), len(target.acquisition))
        assert after.idle == (state.idle + 1 if little else 0)
        state = after
    assert state.idle == 2 and gains[-1] > 0, "ended by patience, on an accepted step"
    assert len(gains) > 3 and gains[0] > 100 * gains[-1]
    # Without patience the same state goes on.
    endless = search_module.Problem.of(target, model, TISSUE, settings.replace(patience=0))
    assert not descent.improve(endless, state, lambda *trial: None).converged

"""The whole search: several starts, few measurements first, resumable after every iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError
from spinmesh.inversion.emulator import Atlas
from spinmesh.inversion.gauss_newton import (
    FIRST_DAMPING,
    Problem,
    ReconstructionSpec,
    State,
    Trial,
    improve,
)
from spinmesh.inversion.metrics import compare_with_mean_shape
from spinmesh.inversion.posterior import posterior_at, vertex_spread
from spinmesh.inversion.reconstruction import Reconstruction
from spinmesh.inversion.reflection import reflected_latent
from spinmesh.inversion.shape_model import ShapeModel
from spinmesh.inversion.starts import starting_points
from spinmesh.inversion.target import Target
from spinmesh.inversion.unknowns import Point
from spinmesh.learning import Checkpoint, fingerprint
from spinmesh.progress import progress
from spinmesh.tissue import Tissue

# Measurements that all but the last steps look at: enough to tell shapes apart, and a step costs
# time in proportion to them.
FEW = 300
# An acquisition has to be this much larger for a stage with fewer measurements to pay.
WORTH = 1.5
# Stages of a track: scouting, going on with few measurements, with all, and the end.
SCOUT, FEWER, ALL, END = range(4)
# Tracks beside the wanted modes that leave the scouting stage: the order may change yet.
SPARE = 1
# Distance of two points, in units of the prior, below which they are one mode.
SAME = 0.1


@dataclass(frozen=True, eq=False)
class Track:
    """One start and how far it has come: `taken` iterations of its stage."""

    start: int
    point: Point
    damping: float = FIRST_DAMPING
    stage: int = SCOUT
    taken: int = 0
    idle: int = 0
    converged: bool = False

    def row(self) -> list[Any]:
        """Plain tensors and numbers."""
        own = self.point
        head = [own.latent, own.rotation, own.physics]
        return [*head, self.start, self.damping, self.stage, self.taken, self.idle, self.converged]

    @classmethod
    def of(cls, row: list[Any]) -> Track:
        """The inverse of `row`."""
        latent, rotation, physics, start, *rest = row
        return cls(start, Point(latent, rotation, physics), *rest)


class Search:
    """Tracks and the history of their trial steps, which is all that a checkpoint holds.

    A resumed search repeats what the killed one would have done, to the last digit: a step follows
    from the track's point, trust region and stage alone.
    """

    def __init__(self, problem: Problem, checkpoint: Checkpoint) -> None:
        self.problem, self.checkpoint = problem, checkpoint
        count = len(problem.target.acquisition)
        generator = torch.Generator().manual_seed(0)
        few = torch.randperm(count, generator=generator)[:FEW].sort().values
        self.fewer = problem.part(few) if count > WORTH * FEW else problem
        self.tracks: list[Track] = []
        self.history: list[list[float]] = []
        self._last: tuple[Track, State] | None = None

    def run(self, seed: int, signals: Signals | None, atlas: Atlas | None = None) -> None:
        """From the starts, or from the checkpoint, until every track has ended."""
        content = self.checkpoint.read()
        if content is None:
            points = starting_points(self.fewer, self.problem, seed, signals, atlas)
            self.tracks = [Track(number, point) for number, point in enumerate(points)]
        else:
            self.history = content["history"]
            self.tracks = [Track.of(row) for row in content["tracks"]]
        for index in progress(self._pending(), "reconstructing", note=self._note):
            self.tracks[index] = self._advanced(self.tracks[index])
            self._save()

    def modes(self) -> list[State]:
        """Every distinct mode, the best one first."""
        found: list[State] = []
        ended = [self._state(track) for track in self.tracks]
        for state in sorted(ended, key=self.problem.cost):
            if not any(_same(state.point, other.point) for other in found):
                found.append(state)
        return found

    def _pending(self) -> Iterator[int]:
        """Indices of tracks to be advanced, stage by stage."""
        limit = {SCOUT: self.problem.spec.scouts}
        for stage in (SCOUT, FEWER, ALL):
            most = limit.get(stage, self.problem.spec.iterations)
            # Few measurements are left out where they are all.
            most = 0 if stage == FEWER and self.fewer is self.problem else most
            for index in range(len(self.tracks)):
                while (own := self.tracks[index]).stage == stage:
                    if own.converged or own.taken >= most:
                        break
                    yield index
            self._promote(stage)

    def _promote(self, stage: int) -> None:
        """Send the tracks of a finished stage on; on the way the worst are left behind."""
        done = [track for track in self.tracks if track.stage == stage]
        if stage == SCOUT and done:
            self.tracks = self._ordered(done)[: self.problem.spec.modes + SPARE]
        elif stage == FEWER and done:
            self.tracks = self._chosen(self._ordered(done))
        for index, track in enumerate(self.tracks):
            if track.stage == stage:
                fresh = Track(track.start, track.point, track.damping, stage + 1)
                self.tracks[index] = fresh

    def _ordered(self, tracks: list[Track]) -> list[Track]:
        cost = {track.start: self.fewer.cost(self._state(track)) for track in tracks}
        return sorted(tracks, key=lambda track: cost[track.start])

    def _chosen(self, order: list[Track]) -> list[Track]:
        """The first `modes`; if several, the last of them is the best one's point reflection.

        No signal tells the two apart, so where the shape model knows both they are two modes.
        """
        if self.problem.spec.modes == 1:
            return order[:1]
        best, unknowns = order[0], self.problem.unknowns
        z = reflected_latent(unknowns.model, unknowns.latent(best.point.latent))
        mirrored = replace(best.point, latent=unknowns.whiten(z))
        chosen = order[: self.problem.spec.modes - 1]
        if self.problem.valid(unknowns.shape(mirrored)):
            number = 1 + max(track.start for track in order)
            chosen.append(replace(best, start=number, point=mirrored))
        return chosen

    def _state(self, track: Track) -> State:
        """Evaluated anew, unless it is what the last step led to."""
        if self._last is not None and self._last[0] is track:
            return self._last[1]
        problem = self.problem if track.stage >= ALL else self.fewer
        state = problem.state(track.point, track.damping, track.idle)
        if state is None:
            raise ReductionError(
                "reconstruct: the checkpoint holds a folded mesh. Delete it and rerun."
            )
        return state

    def _advanced(self, track: Track) -> Track:
        problem = self.problem if track.stage >= ALL else self.fewer
        state = self._state(track)
        own = [row[1] for row in self.history if row[0] == track.start]
        if not own:
            self._log(track, problem, 0.0, problem.trial(state, 0.0, state.damping, True))
        number = max(own, default=0.0) + 1
        after = improve(problem, state, lambda trial: self._log(track, problem, number, trial))
        moved = replace(
            track,
            point=after.point,
            damping=after.damping,
            idle=after.idle,
            converged=after.converged,
            taken=track.taken + 1,
        )
        self._last = (moved, after)
        return moved

    def _log(self, track: Track, problem: Problem, number: float, trial: Trial) -> None:
        """A row of the history; few measurements stand for all of them."""
        share = len(problem.target.attenuation) / len(self.problem.target.attenuation)
        head = [float(track.start), number, trial.chi2 / share, trial.prior]
        self.history.append([*head, trial.length, trial.damping, float(trial.accepted)])

    def _note(self) -> str:
        start, iteration, chi2, _, length, *_ = self.history[-1]
        return f"start {start:.0f}, iteration {iteration:.0f}, chi2 {chi2:.4g}, step {length:.2g}"

    def _save(self) -> None:
        tracks = [track.row() for track in self.tracks]
        self.checkpoint.write({"tracks": tracks, "history": self.history})


def _same(a: Point, b: Point) -> bool:
    apart = torch.cat([a.latent - b.latent, a.physics - b.physics])
    return float(apart.norm() + (a.rotation - b.rotation).norm()) < SAME


def reconstruct(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    spec: ReconstructionSpec,
    seed: int,
    training_signals: Signals | None = None,
    checkpoint: str | Path | None = None,
    atlas: Atlas | None = None,
) -> Reconstruction:
    """The most probable shape given the target's attenuations and the prior over latents.

    `training_signals` are the signals, under the target's acquisition, of every shape of the table
    the model was trained from (or of its training shapes only): the nearest ones are further
    starts; their `atlas`, if there is one already, saves seconds. Without them, further starts are
    seeded draws from the prior. With a `checkpoint` path
    the search saves itself there after every iteration and, if it was killed, goes on from there to
    exactly the same result; a finished run removes the file.

    Raises ReductionError if no start gives a valid mesh, StoreError if the checkpoint is of another
    target, model or spec.
    """
    problem = Problem.of(target, model, tissue, spec)
    path = None if checkpoint is None else Path(checkpoint)
    measured = (target.acquisition, target.attenuation, target.sigma)
    owner = fingerprint(measured, model, tissue, spec, seed, training_signals) if path else ""
    search = Search(problem, Checkpoint(path, owner))
    search.run(seed, training_signals, atlas)
    result = _result(problem, search, seed)
    search.checkpoint.remove()
    return result


def _result(problem: Problem, search: Search, seed: int) -> Reconstruction:
    """Posterior at the modes, mesh in the target's frame, and the score if the truth is known."""
    target, unknowns = problem.target, problem.unknowns
    modes = search.modes()
    best = modes[0]
    posterior = posterior_at(problem, modes, seed)
    template = unknowns.model.basis.template
    points = unknowns.shape(best.point) @ best.point.rotation.T
    mesh = template.with_points(points, "reconstruction")
    spread = vertex_spread(mesh, template, posterior.samples.points(unknowns.model))
    chi2 = problem.chi2(best)
    metrics = {"chi2": float(chi2.sum()), "chi2_per_measurement": float(chi2.mean())}
    metrics["data_determined"] = float((posterior.information > 1).sum())
    metrics["effective_directions"] = posterior.determined
    metrics["modes"] = float(len(modes))
    metrics |= posterior.samples.diagnostics
    for number, (name, value) in enumerate(unknowns.values(best.point).items()):
        metrics[name] = value
        metrics[f"{name} spread"] = float(posterior.samples.physics[:, number].std())
    if target.truth is not None:
        metrics |= compare_with_mean_shape(mesh, target.truth, unknowns.model)
    history = torch.tensor(search.history, dtype=torch.float64)
    predicted = best.prediction.attenuation
    return Reconstruction(
        target, mesh, best.point.rotation, predicted, posterior, spread, history, chi2, metrics
    )

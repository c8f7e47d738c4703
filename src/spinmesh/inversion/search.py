"""The whole search: several starts, few measurements first, resumable after every iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion.descent import Problem, State, improve
from spinmesh.inversion.posterior import posterior_at, vertex_spread
from spinmesh.inversion.result import Fit, Reconstruction
from spinmesh.inversion.starts import starting_points
from spinmesh.inversion.target import Target
from spinmesh.inversion.unknowns import Point, reflected_latent
from spinmesh.learning import Checkpoint, fingerprint
from spinmesh.progress import progress
from spinmesh.settings.reconstruct import Reconstruct
from spinmesh.shapes import ShapeModel
from spinmesh.tissue import Tissue

# Measurements that all but the last steps look at: enough to tell shapes apart, and a step costs
# time in proportion to them.
FEW = 300
# An acquisition has to be this much larger for a stage with fewer measurements to pay.
WORTH = 1.5
# Stages: scouting, going on with few measurements, and with all.
SCOUT, FEWER, ALL, END = range(4)
# Tracks beside the wanted modes that leave the scouting stage: the order may change yet.
SPARE = 1
# Distance of two points, in units of the prior, below which they are one mode.
SAME = 0.1


@dataclass(frozen=True, eq=False)
class Track:
    """One start and where it has come to by `taken` iterations of the present stage."""

    start: int
    state: State
    taken: int = 0


class Search:
    """Tracks and the history of their trial steps, which is all that a checkpoint holds.

    A resumed search repeats what the killed one would have done, to the last digit: a step follows
    from the track's point and trust region and from the stage alone.
    """

    def __init__(self, problem: Problem, checkpoint: Checkpoint) -> None:
        self.whole, self.checkpoint = problem, checkpoint
        count = len(problem.target.acquisition)
        generator = torch.Generator().manual_seed(0)
        few = torch.randperm(count, generator=generator)[:FEW].sort().values
        self.fewer = problem.part(few) if count > WORTH * FEW else problem
        self.stage = SCOUT
        self.tracks: list[Track] = []
        self.history: list[list[float]] = []

    @property
    def problem(self) -> Problem:
        """That of the present stage."""
        return self.fewer if self.stage < ALL else self.whole

    def run(self, seed: int, signals: Signals | None) -> None:
        """From the starts, or from the checkpoint, until every track has ended."""
        content = self.checkpoint.read()
        if content is None:
            points = starting_points(self.fewer, self.whole, seed, signals)
            self.tracks = [Track(i, self.fewer.evaluated(p)) for i, p in enumerate(points)]
        else:
            self.stage, self.history = content["stage"], content["history"]
            self.tracks = [self._restored(*values) for values in content["tracks"]]
        for index in progress(self._pending(), "reconstructing", note=self._note):
            self.tracks[index] = self._advanced(self.tracks[index])
            tracks = [(t.start, t.taken, t.state.plain()) for t in self.tracks]
            content = {"stage": self.stage, "history": self.history, "tracks": tracks}
            self.checkpoint.write(content)

    def _restored(self, start: int, taken: int, plain: dict[str, Any]) -> Track:
        point = Point(*plain.pop("point"))
        return Track(start, replace(self.problem.evaluated(point), **plain), taken)

    def modes(self) -> list[State]:
        """Every distinct mode, the best one first."""
        distinct: list[State] = []
        for state in sorted((track.state for track in self.tracks), key=self.whole.cost):
            if not any(_same(state.point, other.point) for other in distinct):
                distinct.append(state)
        return distinct

    def _pending(self) -> Iterator[int]:
        """Indices of tracks to be advanced, stage by stage."""
        settings = self.whole.settings
        # Where few measurements are all of them, their stage is left out.
        fewer = 0 if self.fewer is self.whole else settings.iterations
        for stage, most in ((SCOUT, settings.scouts), (FEWER, fewer), (ALL, settings.iterations)):
            if self.stage != stage:
                continue
            for index in range(len(self.tracks)):
                while self.tracks[index].taken < most and not self.tracks[index].state.converged:
                    yield index
            self._promote()

    def _promote(self) -> None:
        """Send the tracks on to the next stage; the worst are left behind."""
        if self.stage < ALL:
            ordered = sorted(self.tracks, key=lambda track: self.fewer.cost(track.state))
            modes = self.whole.settings.modes
            self.tracks = ordered[: modes + SPARE] if self.stage == SCOUT else self._modes(ordered)
        before = self.problem
        self.stage += 1
        if self.stage < END:
            states = [
                replace(track.state, idle=0, converged=False)
                if self.problem is before
                else self.problem.evaluated(track.state.point, track.state.damping)
                for track in self.tracks
            ]
            self.tracks = [Track(t.start, s) for t, s in zip(self.tracks, states, strict=True)]

    def _modes(self, ordered: list[Track]) -> list[Track]:
        """The first `modes`; if several, the last of them is the best one's point reflection.

        No signal tells the two apart, so where the shape model knows both they are two modes.
        """
        count, best = self.whole.settings.modes, ordered[0]
        if count == 1:
            return [best]
        unknowns, point = self.whole.unknowns, best.state.point
        mirrored = replace(point, z=reflected_latent(unknowns.model, point.z))
        if not self.whole.valid(unknowns.shape(mirrored)):
            return ordered[: count - 1]
        number = 1 + max(track.start for track in ordered)
        state = self.fewer.evaluated(mirrored, best.state.damping)
        return [*ordered[: count - 1], Track(number, state)]

    def _advanced(self, track: Track) -> Track:
        earlier = [row[1] for row in self.history if row[0] == track.start]
        if not earlier:
            self._log(track.start, 0.0, track.state, 0.0, track.state.damping, True)
        number = max(earlier, default=0.0) + 1
        state = improve(self.problem, track.state, partial(self._log, track.start, number))
        return Track(track.start, state, track.taken + 1)

    def _log(
        self,
        start: int,
        number: float,
        state: State,
        length: float,
        damping: float,
        accepted: bool,
    ) -> None:
        """A row of the history; few measurements stand for all of them."""
        problem = self.problem
        share = len(problem.target.attenuation) / len(self.whole.target.attenuation)
        chi2 = float(problem.chi2(state).sum()) / share
        prior = float(problem.unknowns.gaussian_part(state.point).square().sum())
        self.history.append([start, number, chi2, prior, length, damping, float(accepted)])

    def _note(self) -> str:
        start, iteration, chi2, _, length, *_ = self.history[-1]
        return f"start {start:.0f}, iteration {iteration:.0f}, chi2 {chi2:.4g}, step {length:.2g}"


def _same(a: Point, b: Point) -> bool:
    apart = torch.cat([a.z - b.z, a.physics - b.physics])
    return float(apart.norm() + (a.rotation - b.rotation).norm()) < SAME


def reconstruct(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    settings: Reconstruct,
    seed: int = 1,
    training_signals: Signals | None = None,
    checkpoint: str | Path | None = None,
) -> Reconstruction:
    """The most probable shape given the target's attenuations and the prior over latents.

    `training_signals` are the signals, under the target's acquisition, of every shape of the table
    the model was trained from (or of its training shapes only): the nearest ones are further
    starts. Without them, further starts are seeded draws from the prior. With a `checkpoint` path
    the search saves itself there after every iteration and, if it was killed, goes on from there to
    exactly the same result; a finished run removes the file.

    Raises ReductionError if no start gives a valid mesh, StoreError if the checkpoint is of another
    target, model or settings.
    """
    problem = Problem.of(target, model, tissue, settings)
    path = None if checkpoint is None else Path(checkpoint)
    run = fingerprint(target, model, tissue, settings, seed, training_signals) if path else ""
    search = Search(problem, Checkpoint(path, run))
    search.run(seed, training_signals)
    result = _result(problem, search, seed)
    search.checkpoint.remove()
    return result


def _result(problem: Problem, search: Search, seed: int) -> Reconstruction:
    """Posterior at the modes, and the mesh in the target's frame."""
    unknowns, modes = problem.unknowns, search.modes()
    best = modes[0]
    posterior = posterior_at(problem, modes, seed)
    template = unknowns.model.basis.template
    points = unknowns.shape(best.point) @ best.point.rotation.T
    mesh = template.with_points(points, "reconstruction")
    spread = vertex_spread(mesh, template, posterior.samples.points(unknowns.model))
    fit = Fit(
        best.prediction.attenuation,
        problem.chi2(best),
        int((posterior.information > 1).sum()),
        unknowns.values(best.point),
    )
    history = torch.tensor(search.history, dtype=torch.float64)
    return Reconstruction(
        problem.target, mesh, best.point.rotation, fit, posterior, spread, history
    )

"""The whole search: several starts, few measurements first, resumable after every iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ReductionError
from spinmesh.inversion.descent import FIRST_DAMPING, Problem, State, improve
from spinmesh.inversion.posterior import posterior_at, vertex_spread
from spinmesh.inversion.result import Fit, Reconstruction
from spinmesh.inversion.starts import Atlas, starting_points
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
            self.tracks = [Track(start, Point(*p), *rest) for start, p, *rest in content["tracks"]]
        for index in progress(self._pending(), "reconstructing", note=self._note):
            self.tracks[index] = self._advanced(self.tracks[index])
            tracks = [astuple(track) for track in self.tracks]
            self.checkpoint.write({"tracks": tracks, "history": self.history})

    def modes(self) -> list[State]:
        """Every distinct mode, the best one first."""
        distinct: list[State] = []
        for state in sorted(map(self._state, self.tracks), key=self.problem.cost):
            if not any(_same(state.point, other.point) for other in distinct):
                distinct.append(state)
        return distinct

    def _pending(self) -> Iterator[int]:
        """Indices of tracks to be advanced, stage by stage."""
        settings = self.problem.settings
        # Where few measurements are all of them, their stage is left out.
        fewer = 0 if self.fewer is self.problem else settings.iterations
        for stage, most in ((SCOUT, settings.scouts), (FEWER, fewer), (ALL, settings.iterations)):
            for index in range(len(self.tracks)):
                while (
                    self.tracks[index].stage == stage
                    and self.tracks[index].taken < most
                    and not self.tracks[index].converged
                ):
                    yield index
            self._promote(stage)

    def _promote(self, stage: int) -> None:
        """Send the tracks of a finished stage on; on the way the worst are left behind."""
        done = [track for track in self.tracks if track.stage == stage]
        if stage == SCOUT and done:
            self.tracks = self._ordered(done)[: self.problem.settings.modes + SPARE]
        elif stage == FEWER and done:
            self.tracks = self._chosen(self._ordered(done))
        self.tracks = [
            Track(t.start, t.point, t.damping, stage + 1) if t.stage == stage else t
            for t in self.tracks
        ]

    def _ordered(self, tracks: list[Track]) -> list[Track]:
        cost = {track.start: self.fewer.cost(self._state(track)) for track in tracks}
        return sorted(tracks, key=lambda track: cost[track.start])

    def _chosen(self, order: list[Track]) -> list[Track]:
        """The first `modes`; if several, the last of them is the best one's point reflection.

        No signal tells the two apart, so where the shape model knows both they are two modes.
        """
        count = self.problem.settings.modes
        if count == 1:
            return order[:1]
        best, unknowns = order[0], self.problem.unknowns
        z = reflected_latent(unknowns.model, unknowns.prior.colour(best.point.y))
        mirrored = replace(best.point, y=unknowns.prior.whiten(z))
        chosen = order[: count - 1]
        if self.problem.valid(unknowns.shape(mirrored)):
            number = 1 + max(track.start for track in order)
            chosen.append(replace(best, start=number, point=mirrored))
        return chosen

    def _problem(self, track: Track) -> Problem:
        return self.problem if track.stage >= ALL else self.fewer

    def _state(self, track: Track) -> State:
        """Evaluated anew, unless it is what the last step led to."""
        if self._last is not None and self._last[0] is track:
            return self._last[1]
        state = self._problem(track).state(track.point, track.damping, track.idle)
        if state is None:
            raise ReductionError(
                "reconstruct: the checkpoint holds a folded mesh. Delete it and rerun."
            )
        return state

    def _advanced(self, track: Track) -> Track:
        problem, state = self._problem(track), self._state(track)
        earlier = [row[1] for row in self.history if row[0] == track.start]
        number = max(earlier, default=0.0) + 1

        if not earlier:
            self._log(track.start, 0.0, problem, state, 0.0, state.damping, True)
        after = improve(problem, state, partial(self._log, track.start, number, problem))
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

    def _log(
        self,
        start: int,
        number: float,
        problem: Problem,
        state: State,
        length: float,
        damping: float,
        accepted: bool,
    ) -> None:
        """A row of the history; few measurements stand for all of them."""
        share = len(problem.target.attenuation) / len(self.problem.target.attenuation)
        chi2 = float(problem.chi2(state).sum()) / share
        prior = float(problem.unknowns.gaussian_part(state.point).square().sum())
        self.history.append([start, number, chi2, prior, length, damping, float(accepted)])

    def _note(self) -> str:
        start, iteration, chi2, _, length, *_ = self.history[-1]
        return f"start {start:.0f}, iteration {iteration:.0f}, chi2 {chi2:.4g}, step {length:.2g}"


def _same(a: Point, b: Point) -> bool:
    apart = torch.cat([a.y - b.y, a.physics - b.physics])
    return float(apart.norm() + (a.rotation - b.rotation).norm()) < SAME


def reconstruct(
    target: Target,
    model: ShapeModel,
    tissue: Tissue,
    settings: Reconstruct,
    seed: int = 1,
    training_signals: Signals | None = None,
    checkpoint: str | Path | None = None,
    atlas: Atlas | None = None,
) -> Reconstruction:
    """The most probable shape given the target's attenuations and the prior over latents.

    `training_signals` are the signals, under the target's acquisition, of every shape of the table
    the model was trained from (or of its training shapes only): the nearest ones are further
    starts; their `atlas`, if there is one already, saves seconds. Without them, further starts are
    seeded draws from the prior. With a `checkpoint` path the search saves itself there after every
    iteration and, if it was killed, goes on from there to exactly the same result; a finished run
    removes the file.

    Raises ReductionError if no start gives a valid mesh, StoreError if the checkpoint is of another
    target, model or settings.
    """
    problem = Problem.of(target, model, tissue, settings)
    path = None if checkpoint is None else Path(checkpoint)
    owner = fingerprint(target, model, tissue, settings, seed, training_signals) if path else ""
    search = Search(problem, Checkpoint(path, owner))
    search.run(seed, training_signals, atlas)
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

"""Posteriors by a mixture of conditional neural spline flows (Durkan et al. 2019), with zuko.

Quantities with bounds are probits of their place between them, so that no sample leaves the prior's
range; those without are standardised. Each flow keeps the weights of its lowest loss on groups that
it does not learn from: the loss of the training examples goes on falling while intervals get too
narrow. Members differ in their first weights; their equal mixture is the posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows import NSF

from spinmesh.errors import ConfigError
from spinmesh.estimators.examples import Examples, Names
from spinmesh.learning import Batch, Checkpoint, Problem, Recipe, fingerprint, fit
from spinmesh.settings.maps import FlowTraining
from spinmesh.stored import quantity, store

# A number on a bound would lie infinitely far out.
EDGE = 1e-6
# Validation losses that choose the weights, spread over the training.
REPORTS = 40
# Gradients longer than this are shortened: a rare example far out has a steep one.
CLIP = 5.0


@store("spinmesh/flow", version=1, stage="maps")
@dataclass(frozen=True, eq=False)
class Flow:
    """A mixture of flows from the features of an example to the posterior of its quantities.

    `bounds` are low and high of each quantity, infinite where it has none; `centre` and `spread`
    are mean and standard deviation of features, then of quantities in their unbounded form.
    `losses` are those on the validation groups, one row for each member.
    """

    training: FlowTraining
    names: Names
    bounds: Float[Tensor, "quantity limit"] = quantity("as named")
    centre: Float[Tensor, " column"] = quantity("as named")
    spread: Float[Tensor, " column"] = quantity("as named")
    losses: Float[Tensor, "member report"] = quantity("nat")
    members: tuple[Member, ...] = ()

    @cached_property
    def networks(self) -> list[Density]:
        """One for each member, ready to be asked."""
        count = len(self.names.features), len(self.names.quantities)
        networks = []
        for member in self.members:
            network = Density(*count, self.training)
            network.load_state_dict(member.state)
            networks.append(network.requires_grad_(False))
        return networks

    @torch.no_grad()
    def samples(
        self,
        table: Float[Tensor, "example feature"],
        count: int,
        device: str = "cpu",
        seed: int = 0,
    ) -> Float[Tensor, "example sample quantity"]:
        """`count` of each example, `seed` alone deciding on the draws: all examples share them.

        An equal part comes from each member, of quasi-random normal draws (scrambled Sobol).
        """
        scaled = self._scaled(table.to(device), slice(None, table.shape[1]))
        width = len(self.names.quantities)
        parts = []
        for number, network in enumerate(self.networks):
            each = len(range(number, count, len(self.networks)))
            sobol = torch.quasirandom.SobolEngine(width, scramble=True, seed=seed + number)
            uniform = sobol.draw(each).clamp(EDGE, 1 - EDGE)
            normal = torch.special.ndtri(uniform.double()).float().to(device)
            parts.append(network.to(device).inverse(scaled, normal))
        return self._bounded(torch.cat(parts, 1).cpu().double())

    @torch.no_grad()
    def log_density(
        self, table: Float[Tensor, "example feature"], target: Float[Tensor, "example quantity"]
    ) -> Float[Tensor, " example"]:
        """Logarithm of the posterior density, per unit of every quantity."""
        context = self._scaled(table, slice(None, table.shape[1]))
        free, slope = _unbounded(target, self.bounds)
        scaled = self._scaled(free, slice(table.shape[1], None))
        each = torch.stack([network(context, scaled) for network in self.networks]).double()
        mixture = each.logsumexp(0) - torch.tensor(float(len(each))).log()
        return mixture + (slope.log() - self.spread[table.shape[1] :].log()).sum(1)

    def _scaled(self, values: Tensor, columns: slice) -> Tensor:
        centre, spread = self.centre[columns].to(values), self.spread[columns].to(values)
        return ((values - centre) / spread).float()

    def _bounded(self, scaled: Tensor) -> Tensor:
        features = len(self.names.features)
        free = self.centre[features:] + self.spread[features:] * scaled
        low, high = self.bounds.T
        inside = low + (high - low) * torch.special.ndtr(free)
        return torch.where(torch.isfinite(high - low), inside, free)


@dataclass(frozen=True, eq=False)
class Member:
    """Weights of one flow."""

    state: dict[str, Tensor]


class Density(nn.Module):
    """log q(target | context) of a coupling flow; standardised numbers in float32."""

    def __init__(self, features: int, quantities: int, training: FlowTraining) -> None:
        super().__init__()
        self.flow = NSF(
            quantities,
            features,
            transforms=training.transforms,
            hidden_features=(training.width, training.width),
            # Two passes: half of the quantities given the others, which samples as fast as it fits.
            passes=min(2, quantities),
            randperm=True,
        )

    def forward(self, context: Tensor, target: Tensor) -> Tensor:
        """Log density of each row."""
        log_density: Tensor = self.flow(context).log_prob(target)
        return log_density

    def inverse(
        self, context: Float[Tensor, "example feature"], normal: Float[Tensor, "sample quantity"]
    ) -> Float[Tensor, "example sample quantity"]:
        """What the flow makes of normal draws, the same for all examples."""
        transform = self.flow(context[:, None].expand(-1, len(normal), -1)).transform
        made: Tensor = transform.inv(normal.expand(len(context), -1, -1))
        return made


@dataclass(frozen=True, eq=False)
class _Likelihood(Problem):
    """The mean log density of training examples."""

    context: Tensor
    target: Tensor
    batch: int

    def draw(self, generator: torch.Generator, done: int) -> list[Batch]:
        """Some examples, evenly."""
        where: Any = {"generator": generator, "device": generator.device}
        index = torch.randint(len(self.context), (self.batch,), **where)
        return [(self.context[index], self.target[index])]

    def loss(self, network: Any, batch: Batch) -> Tensor:
        """Minus it."""
        return -network(*batch).mean()


def train_flow(
    examples: Examples,
    bounds: Sequence[tuple[float, float] | None],
    training: FlowTraining,
    seed: int,
    checkpoint: Path | None = None,
    device: str = "cpu",
) -> Flow:
    """The posterior of `examples.target` given `examples.table`; None where there is no bound.

    The result depends on examples, settings and seed alone. A killed training goes on from the
    files `checkpoint` with a member's number behind. Raises ConfigError if a quantity leaves its
    bounds or a column is constant, and what `learning.fit` raises.
    """
    limits = torch.tensor([pair or (-torch.inf, torch.inf) for pair in bounds]).double()
    learnt, judged = (
        _columns(part, limits) for part in examples.held_out(training.validation_fraction, seed)
    )
    centre, spread = learnt.mean(0), learnt.std(0)
    if bool((spread == 0).any()):
        names = (*examples.names.features, *examples.names.quantities)
        raise ConfigError(f"flow: {names[int(spread.argmin())]} is constant. Leave it out.")
    width = len(examples.names.features)
    scaled = [((part - centre) / spread).float().to(device) for part in (learnt, judged)]
    held_out = scaled[1][:, :width], scaled[1][:, width:]
    problem = _Likelihood(scaled[0][:, :width], scaled[0][:, width:], training.batch)
    every = max(1, training.iterations // REPORTS)

    def report(network: nn.Module, done: int) -> list[float] | None:
        return None if done % every else [-float(network(*held_out).mean())]

    members, losses = [], []
    for number in range(training.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)  # zuko draws first weights from torch's own generator
            network = Density(width, len(bounds), training)
        fitted = fit(
            network,
            problem,
            _recipe(training),
            torch.Generator(device).manual_seed(seed + number),
            f"flow {number + 1} of {training.members}",
            report=report,
            checkpoint=_checkpoint(checkpoint, number, fingerprint(scaled, training, seed)),
        )
        members.append(Member(fitted.state))
        losses.append([row[0] for row in fitted.rows])
    history = torch.tensor(losses, dtype=torch.float64)
    return Flow(training, examples.names, limits, centre, spread, history, tuple(members))


def _recipe(training: FlowTraining) -> Recipe:
    return Recipe(
        training.iterations,
        lambda network: [torch.optim.Adam(network.parameters(), training.learning_rate)],
        lambda optimiser, count: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, count),
        clip=CLIP,
        best=True,
    )


def _checkpoint(path: Path | None, number: int, run: str) -> Checkpoint:
    return Checkpoint(path and path.with_name(f"{path.name}.{number}"), f"{run} {number}")


def _columns(examples: Examples, bounds: Float[Tensor, "quantity limit"]) -> Tensor:
    """Features and unbounded quantities side by side."""
    if examples.table is None or examples.target is None:
        raise ConfigError("flow: examples without a table or a target. Give both.")
    return torch.cat([examples.table, _unbounded(examples.target, bounds)[0]], 1).double()


def _unbounded(
    target: Float[Tensor, "example quantity"], bounds: Float[Tensor, "quantity limit"]
) -> tuple[Float[Tensor, "example quantity"], Float[Tensor, "example quantity"]]:
    """Quantities without bounds and what they grow by; ConfigError outside the bounds."""
    low, high = bounds.T
    outside = (target < low) | (target > high)
    if bool(outside.any()):
        row, column = outside.nonzero()[0].tolist()
        raise ConfigError(
            f"flow: quantity {column} of example {row} is {float(target[row, column]):g}, outside "
            f"{bounds[column].tolist()}. Correct the bounds."
        )
    place = ((target - low) / (high - low)).clamp(EDGE, 1 - EDGE)
    probit = torch.special.ndtri(place)
    slope = (2 * torch.pi) ** 0.5 * (probit**2 / 2).exp() / (high - low)
    bounded = torch.isfinite(high - low).expand_as(target)
    return torch.where(bounded, probit, target), torch.where(bounded, slope, 1.0)

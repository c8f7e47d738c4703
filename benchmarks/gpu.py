"""What a GPU gives: `python benchmarks/gpu.py` prints a table, in at most 8 minutes.

A row is printed as each case ends. When the time (`--minutes`) is over it says what has not been
measured. `--device cpu --quick` shows on any machine that it runs. With several cards a training is
done on one and on all of them.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from simulator_cases.batch import BASIS, TARGET, bent_axons
from simulator_cases.shapes import TISSUE, published_acquisition
from simulator_cases.table import machine

from spinmesh.bodies import simulate_substrates
from spinmesh.bundles import ImageSet
from spinmesh.estimators import Examples
from spinmesh.estimators.examples import Names
from spinmesh.estimators.flow import Flow, train_flow
from spinmesh.learning import train_on
from spinmesh.machine import device_named, devices_named
from spinmesh.scores import train_score
from spinmesh.settings import ShapeTraining
from spinmesh.settings.maps import FlowTraining
from spinmesh.settings.synthesise import ScoreTraining
from spinmesh.shapes.variational import fit_variational

# What is measured, how many a second, and a remark.
Rows = Iterator[tuple[str, float, str]]


@dataclass(frozen=True)
class Asked:
    """The command line; sizes and numbers of steps are divided by `less`."""

    device: str
    less: int

    def rate(self, seconds: Callable[[int], float], steps: int) -> float:
        """Steps a second of `seconds(steps)`, without what it takes before and after them."""
        few, many = max(steps // (4 * self.less), 2), max(steps // self.less, 6)
        seconds(few)  # once for what CUDA does the first time
        return (many - few) / max(seconds(many) - seconds(few), 1e-9)


def cards(asked: Asked) -> Rows:
    """A training on all cards: the first case, as CUDA must not have started before a fork."""
    count = 2 if asked.device == "cpu" else torch.cuda.device_count()
    devices, batch = devices_named(asked.device, count), 1024 // asked.less
    if count == 1:
        return

    def seconds(steps: int) -> float:
        training = ScoreTraining(iterations=steps, batch=batch)
        return elapsed(lambda: train_on(devices, train_score, images(), training, 1))

    yield f"score model, batches of {batch}", batch * asked.rate(seconds, 60), f"on {count} of them"


def signals(asked: Asked) -> Rows:
    """Bent axons under the published protocol, in batches."""
    axons, acquisition = bent_axons(max(1000 // asked.less, 2)), published_acquisition()
    device, few = device_named(asked.device), axons.take([0, 1])
    here, there = (simulate_substrates(few, TISSUE, acquisition, BASIS, d) for d in ("cpu", device))
    change = float(((here.signal - there.signal).abs() / here.unweighted).max())
    seconds = elapsed(lambda: simulate_substrates(axons, TISSUE, acquisition, BASIS, device))
    remark = f"aim {TARGET:g}; {change:.0e} from the CPU's"
    yield f"signals, {len(axons):,} axons", len(axons) * len(acquisition) / seconds, remark


def score_model(asked: Asked) -> Rows:
    """The U-net on 32 x 32 pixels."""
    device = device_named(asked.device)
    for batch in (32, 1024 // asked.less):

        def seconds(steps: int, batch: int = batch) -> float:
            training = ScoreTraining(iterations=steps, batch=batch)
            return elapsed(lambda: train_score(images(), training, 1, None, device))

        yield f"score model, batches of {batch}", batch * asked.rate(seconds, 100), "images"


def shape_model(asked: Asked) -> Rows:
    """The variational autoencoder of 26,000 shapes, as published."""
    count = 26_000 // asked.less
    scores = torch.randn(count, 64, dtype=torch.float64)

    def seconds(steps: int) -> float:
        generator = torch.Generator(device_named(asked.device)).manual_seed(1)
        training = ShapeTraining(kind="variational", epochs=steps)
        return elapsed(lambda: fit_variational(scores, scores[:100], training, generator))

    yield f"shape model, {count:,} shapes", count * asked.rate(seconds, 8), "shapes"


def maps(asked: Asked) -> Rows:
    """The flow that a posterior of voxels is: its training, and its answers."""
    device, count = device_named(asked.device), 20_000 // asked.less
    names = Names(tuple(f"x{k}" for k in range(30)), ("1",) * 30, tuple("abcdefgh"), ("1",) * 8)
    table = torch.randn(count, 30, dtype=torch.float64)
    examples = Examples(torch.arange(count), names, target=table[:, :8] ** 3, table=table)

    def trained(steps: int, batch: int = 512) -> Flow:
        training = FlowTraining(members=1, iterations=steps, batch=batch)
        return train_flow(examples, [None] * 8, training, 1, None, device)

    rate = asked.rate(lambda steps: elapsed(lambda: trained(steps)), 200)
    yield "maps' flow, batches of 512", 512 * rate, "voxels"
    flow, voxels = trained(2), table[:2000]
    flow.samples(voxels[:10], 64, device)
    seconds = elapsed(lambda: flow.samples(voxels, 64, device))
    yield "maps, 64 draws of each", len(voxels) / seconds, "voxels"


def images() -> ImageSet:
    """2,000 of 32 x 32 pixels, whose contents cost no time."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2000, 32, 32, generator=generator) * 2 - 1
    condition = torch.rand(2000, 6, generator=generator)
    return ImageSet(pixels, condition, condition[:, 0], ("train",) * 2000, 20.0)


def elapsed(work: Callable[[], object]) -> float:
    """Seconds by the clock, until the last kernel has ended."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        for card in range(torch.cuda.device_count()):
            torch.cuda.synchronize(card)
    return time.perf_counter() - begun


CASES = (cards, signals, score_model, shape_model, maps)


def stop(number: int, frame: FrameType | None) -> None:
    """What the alarm calls."""
    raise TimeoutError


def main() -> None:
    """Every case, until the time is up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--minutes", type=float, default=8.0)
    words = parser.parse_args()
    asked, waiting = Asked(words.device, 100 if words.quick else 1), list(CASES)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 60 * words.minutes)
    print(f"Made by `python benchmarks/gpu.py` on {machine()}.", end="\n\n")
    print("| what | a second | of | on |\n| --- | --- | --- | --- |", flush=True)
    try:
        while waiting:
            for what, rate, remark in waiting[0](asked):
                print(f"| {what} | {rate:,.0f} | {remark} | {card(asked)} |", flush=True)
            del waiting[0]
    except TimeoutError:
        names = ", ".join(case.__name__ for case in waiting)
        print(f"\n{words.minutes:g} minutes are over; not measured, or not all: {names}.")


def card(asked: Asked) -> str:
    """Its name."""
    return "CPU" if asked.device == "cpu" else torch.cuda.get_device_name(device_named("cuda"))


if __name__ == "__main__":
    main()

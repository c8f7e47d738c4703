"""Every way on every problem, one after the other on one thread: error and CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.peers.problems import Problem, problems
from experiments.peers.settings import Peers
from experiments.peers.ways import by_hand, gaussian_phase, reduced, walk
from spinmesh.progress import progress

SPINMESH, BY_HAND, WALK, CLOSED = "spinmesh", "scikit-fem by hand", "Monte Carlo", "Gaussian phase"


def compared(settings: Peers) -> list[dict[str, Any]]:
    """A row for each: largest and root-mean-square error of S/S0, and CPU seconds.

    The time is that of the process: mesh, matrices, basis or walk, and all signals.
    """
    torch.set_num_threads(1)
    bodies, rows = problems(settings), []
    for number, (way, level, run) in enumerate(progress(list(_ways(settings)), "ways")):
        for body in bodies:
            if number == 0:
                run(body)  # loads libraries and compiles what is compiled once
            start = time.process_time()
            error = np.abs(run(body) - np.asarray(body.exact))
            taken = time.process_time() - start
            rows.append(
                {"way": way, "level": level, "body": body.name, "signals": len(error)}
                | {"largest_error": error.max(), "rms_error": np.sqrt((error**2).mean())}
                | {"cpu_s": taken}
            )
    return rows


def _ways(settings: Peers) -> Iterator[tuple[str, str, Callable[[Problem], np.ndarray]]]:
    for fine in settings.reduced:
        level = f"mesh {fine.refinement}, tolerance {fine.tolerance:g}"
        yield SPINMESH, level, partial(reduced, settings=fine)
    for hand in settings.by_hand:
        level = f"P{hand.degree}, mesh {hand.refinement}, steps of {hand.step_ms:g} ms"
        yield BY_HAND, level, partial(by_hand, settings=hand)
    for many in settings.walks:
        level = f"{many.walkers:,} walkers, steps of {many.step_ms:g} ms"
        yield WALK, level, partial(walk, settings=many, seed=settings.seed)
    yield CLOSED, "", gaussian_phase

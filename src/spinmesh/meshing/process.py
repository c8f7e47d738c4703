"""Meshing programs in a process of their own, with a limit on time and on memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from spinmesh.errors import MeshError
from spinmesh.progress import progress
from spinmesh.settings import MeshOptions

GIGABYTE = 1 << 30
# netgen and mmg at work; a skeleton cut into 1.5 million tets took 1.8 GB in all.
BYTES_PER_TET = 1200
# What programs say where there is no memory left, even for their own code.
OUT_OF_MEMORY = ("memory", "bad_alloc", "failed to map")


@dataclass(frozen=True)
class Limits:
    """Seconds, and gigabytes of address space, after which a meshing program is ended."""

    seconds: float = 3600.0
    gigabytes: float = 0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    # Of a repair: fTetWild needs seconds for a surface that can be mended, and hours for others.
    repair_seconds: float = 45.0

    @classmethod
    def of(cls, options: MeshOptions) -> Limits:
        """Those of the options, by default of the machine."""
        gigabytes, seconds = options.memory_limit_gb or cls.gigabytes, options.time_limit_s
        return cls(seconds or cls.seconds, gigabytes, seconds or cls.repair_seconds)

    def question(self, tets: float, name: str) -> None:
        """Raises MeshError, with `name` in it, if so many tets would exceed the memory."""
        gigabytes = tets * BYTES_PER_TET / GIGABYTE
        if gigabytes > self.gigabytes:
            raise MeshError(
                f"{name}: about {tets:.2g} tets, for which meshers take {gigabytes:.3g} GB; "
                f"{self.gigabytes:.3g} GB are allowed. Raise --size (at least "
                f"{(gigabytes / self.gigabytes) ** (1 / 3):.2g}-fold), or --memory-limit."
            )


class MesherFailedError(MeshError):
    """A mesher gave up or crashed, within its limits."""


def run_apart(
    job: str, arrays: dict[str, ndarray | float], limits: Limits, name: str
) -> dict[str, ndarray]:
    """What the function `job` ("module:function") makes of the arrays, with progress.

    Raises MeshError, with `name` in it, where the job exceeds a limit, MesherFailedError where it
    fails.
    """
    with tempfile.TemporaryDirectory(prefix="spinmesh-") as made:
        folder = Path(made)
        memory = int(limits.gigabytes * GIGABYTE)
        np.savez(folder / "input.npz", job=job, memory=memory, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "spinmesh.meshing.worker", str(folder)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
            try:
                for _ in progress(_seconds(process, limits.seconds), name, note=_phase(folder)):
                    pass
            finally:
                late = process.poll() is None
                process.kill()
                process.wait()
        phase = _phase(folder)()
        if late:
            raise MeshError(
                f"{name}: {phase or 'the mesher'} took more than {limits.seconds:g} s and was "
                "ended. Mend what is said to be broken, or raise --time-limit or --size."
            )
        if not (folder / "output.npz").is_file():
            reason = _reason(folder, process, limits)
            of_limit = any(word in reason for word in OUT_OF_MEMORY)
            kind = MeshError if of_limit else MesherFailedError
            raise kind(f"{name}: {phase or 'the mesher'}, {reason}")
        with np.load(folder / "output.npz") as stored:
            return dict(stored)


def _seconds(process: subprocess.Popen[bytes], limit: float) -> Iterator[float]:
    """A value for each second that the process runs, up to the limit."""
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < limit:
        try:
            process.wait(timeout=min(1.0, limit - elapsed))
            return
        except subprocess.TimeoutExpired:
            yield elapsed


def _phase(folder: Path) -> Callable[[], str]:
    def read() -> str:
        file = folder / "phase"
        return file.read_text() if file.is_file() else ""

    return read


def _reason(folder: Path, process: subprocess.Popen[bytes], limits: Limits) -> str:
    error = folder / "error"
    words = error.read_text() if error.is_file() else (folder / "log").read_text()[-300:]
    short = " ".join(words.split()) or f"exit code {process.returncode}"
    if "No module named" in short:
        return f"{short}. Install the extra: pip install 'spinmesh[mesher]'."
    if any(word in short for word in OUT_OF_MEMORY):
        return f"{short}: {limits.gigabytes:.3g} GB were allowed. Raise --size, or --memory-limit."
    if process.returncode < 0:
        return f"crashed (signal {-process.returncode}; {short})"
    return short

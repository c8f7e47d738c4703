"""Whether a simulation fits into memory, asked before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from spinmesh.errors import ReductionError
from spinmesh.mesh import TetMesh
from spinmesh.sequence import Acquisition

# Bytes at the peak, for each tet of 4 or 10 nodes: assembly, matrices and the preconditioner.
# Measured on balls of 4,096 to 262,144 tets: 2.4 to 2.5 kB and 13.5 to 18.5 kB (decision 0004).
PER_TET = {4: 2_600, 10: 15_000}
# Bytes of sparse factors per unknown^(4/3), where eigenfunctions need them.
PER_FACTOR = 110
# Modes of a usual basis, and how many dof x mode arrays of 8 bytes live at once.
USUAL_MODES, ARRAYS = 120, 4
LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def needed_memory(mesh: TetMesh, acquisition: Acquisition, kind: str = "krylov") -> int:
    """Bytes at the peak of reducing a mesh and simulating an acquisition, to a factor of two.

    Laplace eigenfunctions factorise the matrix whatever its size; Krylov does not beyond 5,000
    unknowns. Phase matrices are k x k for each measurement and axis.
    """
    dofs, tets = len(mesh.points), len(mesh.tets)
    axes = max(sequence.axes for sequence in acquisition.sequences)
    phases = 2 * 8 * len(acquisition) * axes * USUAL_MODES**2
    factors = PER_FACTOR * dofs ** (4 / 3) if kind == "laplace" else 0.0
    own = PER_TET[mesh.tets.shape[1]] * tets + ARRAYS * 8 * dofs * USUAL_MODES
    return int(own + factors + phases)


def available_memory() -> int:
    """Bytes a process may still take: what the machine has free, or the container if that is less.

    Files held in memory for speed count as free, as the kernel gives them back.
    """
    free = [_machine()]
    for limit, used in LIMITS:
        if Path(limit).is_file() and Path(used).is_file():
            words = Path(limit).read_text().strip()
            if words != "max":
                free.append(int(words) - int(Path(used).read_text()))
    return max(min(free), 0)


def _machine() -> int:
    file = Path("/proc/meminfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(mesh: TetMesh, acquisition: Acquisition, kind: str = "krylov") -> None:
    """ReductionError if a simulation would need more memory than there is."""
    needed, available = needed_memory(mesh, acquisition, kind), available_memory()
    if needed > available:
        raise ReductionError(
            f"{mesh.name}: {len(mesh.tets):,} tets, {len(mesh.points):,} points and "
            f"{len(acquisition):,} measurements need about {_gigabytes(needed)} of memory; "
            f"{_gigabytes(available)} are free. Coarsen the mesh or cut it into pieces, simulate "
            "fewer measurements at a time, or go to a larger machine."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB"

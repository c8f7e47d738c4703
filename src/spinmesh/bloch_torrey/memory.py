"""Whether a simulation fits into memory, asked before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from spinmesh.errors import ReductionError
from spinmesh.mesh import TetMesh

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


def needed_memory(mesh: TetMesh, kind: str = "krylov") -> int:
    """Bytes at the peak of reducing a mesh, to a factor of two.

    Laplace eigenfunctions factorise the matrix whatever its size; Krylov does not beyond 5,000
    unknowns. Signals take no more, however many: measurements are worked on in chunks.
    """
    dofs, tets = len(mesh.points), len(mesh.tets)
    factors = PER_FACTOR * dofs ** (4 / 3) if kind == "laplace" else 0.0
    own = PER_TET[mesh.tets.shape[1]] * tets + ARRAYS * 8 * dofs * USUAL_MODES
    return int(own + factors)


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


def check_memory(mesh: TetMesh, kind: str = "krylov") -> None:
    """ReductionError if a simulation would need more memory than there is."""
    needed, available = needed_memory(mesh, kind), available_memory()
    if needed > available:
        raise ReductionError(
            f"{mesh.name}: {len(mesh.tets):,} tets with {len(mesh.points):,} points need about "
            f"{_gigabytes(needed)} of memory; {_gigabytes(available)} are free. Coarsen the mesh, "
            "cut it into pieces, or go to a larger machine."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB"

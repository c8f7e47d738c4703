"""How much memory there is."""

from __future__ import annotations

import os
from pathlib import Path

# What a container may take, and has taken.
LIMIT, USED = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"


def available_memory() -> int:
    """Bytes a process may still take: what the machine has free, or the container if that is less.

    Files held in memory for speed count as free, as the kernel gives them back.
    """
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    free = free or [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit = Path(LIMIT).read_text().strip() if Path(LIMIT).is_file() else "max"
    if limit != "max":
        free.append(int(limit) - int(Path(USED).read_text()))
    return max(min(free), 0)

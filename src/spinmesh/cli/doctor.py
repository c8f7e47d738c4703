"""`spinmesh doctor`: what this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import os
import platform
import re
from collections import defaultdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

import typer

from spinmesh.cli.measured import tell

PIN = re.compile(r"([\w.-]+)==([\w.]+)(?:; extra == ['\"](\w+)['\"])?")
# What netgen and VTK open at import; the Containerfile installs them.
LIBRARIES = "libgl1 libice6 libsm6 libx11-6 libxext6"
EXTRAS = {
    "workflow": "spinmesh run, make run",
    "mesher": "spinmesh mesh; mesh.inputs of surfaces, skeletons and label volumes",
    "slurm": "runs on a cluster",
    "pulseq": "acquisitions of Pulseq, .seq",
    "docs": "make docs",
    "oracles": "tests alone",
    "dev": "tests and checks alone",
}


def doctor() -> None:
    """Say what this machine has, what is missing, and how to install it.

    Exit code 1 if spinmesh itself lacks something that it needs; extras may be missing.
    """
    missing = _missing()
    rows = _machine()
    if not missing["mesher"]:
        rows["mesher"] = _mesher()
    for extra in ("", *EXTRAS):
        title, use = (f"extra {extra}", EXTRAS[extra]) if extra else ("packages", "everything")
        rows[title] = "; ".join(missing[extra]) or "all there"
        if missing[extra]:
            install = f"spinmesh[{extra}]" if extra else "spinmesh"
            rows[title] += f". For {use}:  pip install '{install}'"
    words = "\n".join(f"{title:<14} {text}" for title, text in rows.items())
    tell(words, **rows, missing=missing)
    if missing[""]:
        raise typer.Exit(1)


def _missing() -> dict[str, list[str]]:
    """By extra, "" for what everybody needs: packages that are absent or of another version."""
    missing: dict[str, list[str]] = defaultdict(list)
    for pin in filter(None, map(PIN.match, requires("spinmesh") or [])):
        name, needed, extra = pin.groups()
        try:
            # A local build, 2.13.0+cpu, is the same version.
            present = version(name).split("+")[0]
        except PackageNotFoundError:
            missing[extra or ""].append(f"{name} is missing")
        else:
            if present != needed:
                missing[extra or ""].append(f"{name} is {present}, not {needed}")
    return missing


def _mesher() -> str:
    """Whether the programs that fill and mend surfaces start here: some open system libraries."""
    try:
        for name in ("netgen.meshing", "mmgpy", "pytetwild", "pyvista"):
            import_module(name)
    except (ImportError, OSError) as error:
        return f"does not start: {error}. On Debian:  apt-get install {LIBRARIES}"
    return "starts"


def _machine() -> dict[str, str]:
    """Versions, threads, memory and devices."""
    rows = {
        "spinmesh": version("spinmesh"),
        "python": f"{platform.python_version()} on {platform.platform()}",
    }
    try:
        import torch
    except ImportError as error:
        return rows | {"torch": f"cannot be imported: {error}"}
    from spinmesh.machine import available_memory, device_named
    from spinmesh.provenance import revision

    limit = os.environ.get("OMP_NUM_THREADS")
    given = f" (OMP_NUM_THREADS={limit})" if limit else ""
    device = device_named("auto")
    name = torch.cuda.get_device_name() if device == "cuda" else "torch sees no GPU"
    return rows | {
        "revision": revision(),
        "torch": torch.__version__,
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()}{given}",
        "memory": f"{available_memory() / 1e9:.1f} GB free",
        "device": f"{device}: {name}",
    }

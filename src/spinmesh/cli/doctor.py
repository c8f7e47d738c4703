"""`spinmesh doctor`: what this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import os
import platform
import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

import typer

from spinmesh.cli.measured import tell

PIN = re.compile(r"([\w.-]+)==([\w.]+)(?:; extra == ['\"](\w+)['\"])?")
# What netgen and VTK open at import; the Containerfile installs them.
LIBRARIES = "libgl1 libice6 libsm6 libx11-6 libxext6"


def doctor() -> None:
    """Say what this machine has, what is missing, and how to install it.

    Exit code 1 if spinmesh itself lacks something that it needs; extras may be missing.
    """
    missing = _missing()
    rows = _machine()
    if not missing["mesher"]:
        rows["mesher"] = _mesher()
    for extra, absent in missing.items():
        install = f"pip install 'spinmesh[{extra}]'".replace("[]", "")
        told = f"{'; '.join(absent)}:  {install}" if absent else "all there"
        rows[f"extra {extra}" if extra else "packages"] = told
    words = "\n".join(f"{title:<14} {text}" for title, text in rows.items())
    tell(words, **rows, missing=missing)
    if missing[""]:
        raise typer.Exit(1)


def _missing() -> dict[str, list[str]]:
    """By extra, "" for what everybody needs: packages that are absent or of another version."""
    missing: dict[str, list[str]] = {}
    for pin in filter(None, map(PIN.match, requires("spinmesh") or [])):
        name, needed, extra = pin.groups(default="")
        absent = missing.setdefault(extra, [])
        try:
            # A local build, 2.13.0+cpu, is the same version.
            present = version(name).split("+")[0]
        except PackageNotFoundError:
            absent.append(f"{name} is missing")
        else:
            if present != needed:
                absent.append(f"{name} is {present}, not {needed}")
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

    limit = f"OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}"
    device = device_named("auto")
    name = "torch sees no GPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return rows | {
        "revision": revision(),
        "torch": torch.__version__,
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()} ({limit})",
        "memory": f"{available_memory() / 1e9:.1f} GB free",
        "device": f"{device}: {name}",
    }

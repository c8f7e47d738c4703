"""`spinmesh init` and `run`: a folder with the workflow and demo data, and the workflow in it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError
from spinmesh.settings import load_config

# What a run folder holds. In a wheel it lies in the package, in a clone two folders up.
PARTS = ("Snakefile", "workflow", "profiles", "envs", "config")
PACKED = Path(__file__).parents[1] / "run_folder"
CLONE = Path(__file__).parents[3]
DEFAULT = Path("config/config.yaml")
MORE = "What to make (phantom, a file), and after -- what Snakemake takes."
Config = Annotated[Path, typer.Option(help="Configuration of the run.")]
Cores = Annotated[int | None, typer.Option(min=1, help="All of the machine's if left out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would run.")]
Snakefile = Annotated[Path, typer.Option(help="workflow/maps/Snakefile, ...")]
More = Annotated[list[str] | None, typer.Argument(help=MORE)]


def init(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Lay out a folder for runs: Snakefile, workflow, profiles, configuration and demo data."""
    measured.refuse_full(folder, force=False)
    if " " in str(folder.absolute()):
        raise ConfigError(f"{folder}: has blanks in its name, which programs there would not bear.")
    source = PACKED if PACKED.is_dir() else CLONE
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (source / part).is_dir():
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / part, folder / part, ignore=without)
        else:
            shutil.copy(source / part, folder / part)
    words = f"{folder}: edit {DEFAULT} there, and then:  cd {folder} && spinmesh run"
    measured.tell(words, folder=str(folder), config=str(folder / DEFAULT))


def run_workflow(
    config: Config = DEFAULT,
    cores: Cores = None,
    dry_run: DryRun = False,
    snakefile: Snakefile = Path("Snakefile"),
    more: More = None,
) -> None:
    """Run all stages, or what is named, in this folder: Snakemake with one screen.

    Only what is missing or has changed is made. The exit code is Snakemake's.
    """
    if find_spec("snakemake") is None:
        raise ConfigError("no Snakemake here. Install it: pip install 'spinmesh[workflow,mesher]'.")
    if not snakefile.is_file():
        raise ConfigError(f"{snakefile}: no such file. Lay out a folder by `spinmesh init DIR`.")
    if snakefile == Path("Snakefile"):
        # Snakemake's own reader does not come back where aliases repeat mappings within mappings.
        load_config(config)
    words = ["--snakefile", str(snakefile), "--configfile", str(config), "--logger", "spinmesh"]
    words += ["--cores", str(cores or "all"), *(["--dry-run"] if dry_run else [])]
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ["PATH"] = os.pathsep.join(programs)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *words, *(more or [])])

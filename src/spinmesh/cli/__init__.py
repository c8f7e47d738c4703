"""The command line: one mesh's signals, or one signal's mesh, without the workflow."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.cli.doctor import doctor
from spinmesh.cli.mesh import mesh
from spinmesh.cli.packs import is_pack, reduce, replayed
from spinmesh.cli.plan import plan
from spinmesh.cli.reconstruct import reconstruct
from spinmesh.cli.running import init, run_workflow
from spinmesh.cli.stores import provenance, repair, view
from spinmesh.cli.synthesise import synthesise
from spinmesh.cli.trained import classify, maps
from spinmesh.errors import (
    ConfigError,
    MeshWarning,
    ResolutionWarning,
    ScaleWarning,
    SoundWarning,
    SpinmeshError,
)
from spinmesh.settings import Basis, Method

if TYPE_CHECKING:
    from spinmesh.bloch_torrey import Signals
    from spinmesh.mesh import TetMesh
    from spinmesh.sequence import Acquisition
    from spinmesh.tissue import Tissue

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

MESH = "Of tetra or tetra10 cells: .msh, .vtu, .mesh, ...; or a pack of spinmesh reduce."
OUT = "FILE.zarr or FILE.csv (um^3 times density); of several meshes a folder: NAME.csv of each."
# Exit code of what may succeed on another machine or later; sysexits.h calls it EX_TEMPFAIL.
ELSEWHERE = 75
TOLERANCE = (
    "Error of a signal that the basis may cause, as a fraction of the unweighted one; 1e-5 if not "
    "given. If given, a mesh too coarse for it is warned of, and refused if far too coarse."
)
METHOD = (
    "reduced, or stepping: the whole system through time, to the tolerance; slower, with no basis "
    "that could miss something."
)


COMPARTMENTS = (
    "Two more columns of the csv for each label of the mesh: the signal of the spins that are in "
    "that compartment at the echo."
)

# By command, for its help: a test reads them as a terminal would.
PROTOCOL = "--bvals dwi.bval --bvecs dwi.bvec --delta 12.9 --Delta 21.8"
EXAMPLES = {
    "mesh": (
        "spinmesh mesh cell.ply --out cell.zarr",
        "spinmesh mesh myelin.ply axon.ply --box --curved --out fibre.zarr --picture fibre.html",
        "spinmesh mesh scans/*.swc --check",
    ),
    "simulate": (
        f"spinmesh simulate cell.msh {PROTOCOL} --out signal.csv",
        "spinmesh simulate cells/*.msh --scheme dwi.scheme --diffusivity 1.7 --out signals/",
        "spinmesh simulate fibre.zarr --tissue tissue.yaml --scheme dwi.seq --out signals.zarr",
    ),
    "reduce": (
        "spinmesh reduce cell.msh --strongest-gradient 80 --longest-time 60 --out pack.zarr",
        "spinmesh simulate pack.zarr --scheme dwi.scheme --out signal.csv",
    ),
    "reconstruct": (
        f"spinmesh reconstruct dwi.nii.gz --voxel 40,52,30 {PROTOCOL} --snr 30 "
        "--model results/demo/reconstruct/shape_model.zarr --pose unknown --out voxel/",
    ),
    "maps": (
        "spinmesh maps sub-01/dwi/ --model results/maps/model.zarr --mask mask.nii.gz --out maps/",
    ),
    "synthesise": (
        "spinmesh synthesise --model results/demo/synthesise/score_model.zarr --signal signal.csv "
        "--scheme dwi.scheme --count 64 --out images/",
    ),
    "classify": (
        "spinmesh classify left.wav right.wav --model results/respiratory/models/lungs.zarr",
    ),
    "view": ("spinmesh view results/demo --out demo.html",),
    "provenance": ("spinmesh provenance results/demo/simulate/signals.zarr --json",),
    "repair": ("spinmesh repair results/demo",),
    "plan": (
        "snakemake --dag --forceall | spinmesh plan my.yaml results/demo --nodes 10 --cores 32",
    ),
    "init": ("spinmesh init study/ && cd study/ && spinmesh run",),
    "run": ("spinmesh run --config my.yaml --cores 8", "spinmesh run -- --unlock"),
    "doctor": ("spinmesh doctor --json",),
}


@app.callback()
def main() -> None:
    """Tissue geometry to diffusion-MRI signal, and back. `spinmesh COMMAND --help` has examples.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 75 the machine is too small.
    """


@measured.taking_acquisition
def simulate(
    meshes: Annotated[list[Path], typer.Argument(help=MESH)],
    out: Annotated[Path, typer.Option(help=OUT)],
    files: dict[str, Any],
    tissue: measured.TissueFile = None,
    diffusivity: measured.Diffusivity = None,
    basis: Annotated[str, typer.Option(help="krylov or laplace.")] = "krylov",
    method: Annotated[Method, typer.Option(help=METHOD)] = "reduced",
    tolerance: Annotated[float | None, typer.Option(help=TOLERANCE)] = None,
    scale_to_um: measured.Scale = None,
    label_key: measured.LabelKey = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for the signals.")] = "cpu",
    by_compartment: Annotated[bool, typer.Option(help=COMPARTMENTS)] = False,
    force: measured.Replace = False,
) -> None:
    """Simulate the signals of meshes for an acquisition.

    If one of several meshes is refused, the others are simulated all the same; the exit code is 1.
    """
    places = _places(meshes, out)
    if tissue is not None and diffusivity is not None:
        raise ConfigError("--diffusivity excludes --tissue, which has one of each compartment.")
    for place in places:
        measured.refuse_existing(place, force)
        if by_compartment and place.suffix != ".csv":
            raise ConfigError(f"--out {place}: --by-compartment writes columns of a .csv.")
    given = {} if tolerance is None else {"tolerance": tolerance}
    spec = Basis.checked({"kind": basis} | given, "spinmesh simulate")
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.machine import device_named

    device, acquisition = device_named(device), read_acquisition(**files)
    failed = False
    for name, place in zip(meshes, places, strict=True):
        try:
            if is_pack(name):
                if spec.kind != "krylov" or any((method != "reduced", scale_to_um, label_key)):
                    raise ConfigError(
                        f"{name}: a pack has its basis, method, unit and labels; leave them away."
                    )
                if by_compartment:
                    raise ConfigError(f"{name}: a pack has the sum of its compartments only.")
                parts = replayed(name, acquisition, tissue, diffusivity, tolerance, device)
                _write(parts.signals, place, name, f"estimated error {parts.words}")
                continue
            body = measured.filled_mesh(name, tissue, diffusivity, scale_to_um, label_key)
            way = {"device": device, "method": method, "by_compartment": by_compartment}
            _simulate(name, place, body, acquisition, spec, tolerance, way)
        except SpinmeshError as error:
            if len(meshes) == 1:
                raise
            failed = True
            _complain(error)
    if failed:
        raise typer.Exit(1)


def _places(meshes: Sequence[Path], out: Path) -> list[Path]:
    """A store or table for one mesh; in a folder, a table for each that has its name."""
    if out.suffix in (".zarr", ".csv"):
        if len(meshes) > 1:
            raise ConfigError(f"--out {out}: {len(meshes)} meshes need a folder. Give signals/.")
        return [out]
    if out.suffix:
        raise ConfigError(f"--out {out}: give a name that ends in .zarr or .csv, or a folder.")
    places = [out / f"{mesh.name.removesuffix(mesh.suffix)}.csv" for mesh in meshes]
    if twice := [place.stem for place in places if places.count(place) > 1]:
        raise ConfigError(f"--out {out}: two meshes are called {twice[0]}. Simulate them apart.")
    return places


def _simulate(
    name: Path,
    place: Path,
    body: tuple[TetMesh, Tissue],
    acquisition: Acquisition,
    spec: Basis,
    tolerance: float | None,
    way: dict[str, Any],
) -> None:
    from spinmesh.bloch_torrey import check_resolution
    from spinmesh.bodies import simulate_body

    shape, filling = body
    size = f"{len(shape.points):,} points, {len(shape.tets):,} tets"
    typer.echo(f"{name}: {size}; simulating {len(acquisition)} measurements", err=True)
    result = simulate_body(shape, filling, acquisition, spec, **way)
    mesh_error, words = None, "unknown"
    if result.reduction is not None:
        mesh_error = result.reduction.discretisation_error(filling, acquisition)
        words = f"{mesh_error:.1g}"
        if tolerance is not None:
            check_resolution(shape, mesh_error, tolerance)
    error = f"estimated error {result.words} and {words} (mesh) of S0"
    each = result.compartments
    by_label = None if each is None else dict(zip(shape.labels, each.rows(), strict=True))
    numbers = {"tets": len(shape.tets), "mesh_error": mesh_error}
    _write(result.signals, place, name, error, by_label, **numbers)


def _write(
    signals: Signals,
    out: Path,
    mesh: Path,
    error: str,
    compartments: dict[int, Signals] | None = None,
    **numbers: Any,
) -> None:
    """Write the signals and tell it."""
    from spinmesh.io import save
    from spinmesh.io.tables import write_signal_table

    if out.suffix == ".csv":
        write_signal_table(signals, out, compartments)
    else:
        save(signals, out)
    count = len(signals.acquisition)
    told = {"file": str(out), "mesh": str(mesh), "measurements": count, "error": error}
    measured.tell(f"{out}: {count} signals of {mesh}; {error}", **told, **numbers)


COMMANDS = (
    *(mesh, simulate, reduce, reconstruct, maps, synthesise, classify),
    *(init, run_workflow, view, plan, provenance, repair, doctor),
)
for _command in COMMANDS:
    _name = _command.__name__.removesuffix("_workflow")
    _shown = "\n\n".join(["Examples:", *EXAMPLES[_name]])
    # What Snakemake says is no result of ours.
    _answering = _command if _command is run_workflow else measured.answering(_command)
    app.command(_name, epilog=_shown)(_answering)


def _complain(error: SpinmeshError) -> None:
    typer.echo(f"{type(error).__name__}: {error}", err=True)


def run() -> None:
    """Entry point: an error of ours is one message and an exit code, not a traceback."""
    # A tenth of the time that imports take is looking for cycles; there are few in what follows.
    gc.set_threshold(100_000)
    # Of warnings, those of ours are for the user; what libraries say to programmers is not.
    warnings.simplefilter("ignore")
    for category in (MeshWarning, ResolutionWarning, ScaleWarning, SoundWarning):
        warnings.simplefilter("default", category)
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    try:
        app()
    except SpinmeshError as error:
        _complain(error)
        raise SystemExit(1 if error.refused else ELSEWHERE) from None

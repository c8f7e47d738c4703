"""The command line: one mesh's signals, or one signal's mesh, without the workflow."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.cli.classify import classify
from spinmesh.cli.maps import maps
from spinmesh.cli.mesh import mesh
from spinmesh.cli.packs import is_pack, reduce, replayed
from spinmesh.cli.plan import plan
from spinmesh.cli.provenance import provenance, view
from spinmesh.cli.reconstruct import reconstruct
from spinmesh.cli.synthesise import synthesise
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

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(mesh)
app.command()(reduce)
app.command()(view)
app.command()(provenance)
app.command()(plan)
app.command()(reconstruct)
app.command()(maps)
app.command()(synthesise)
app.command()(classify)

MESH = "Of tetra or tetra10 cells: .msh, .vtu, .mesh, ...; or a pack of spinmesh reduce."
TOLERANCE = (
    "Error of a signal that the basis may cause, as a fraction of the unweighted one; 1e-5 if not "
    "given. If given, a mesh too coarse for it is warned of, and refused if far too coarse."
)
METHOD = (
    "reduced, or stepping: the whole system through time, to the tolerance; slower, with no basis "
    "that could miss something."
)


@app.callback()
def main() -> None:
    """Tissue geometry to diffusion-MRI signal. The whole pipeline is run by snakemake."""


@app.command()
@measured.taking_acquisition
def simulate(
    mesh: Annotated[Path, typer.Argument(help=MESH)],
    out: Annotated[Path, typer.Option(help="FILE.zarr or FILE.csv (um^3 times density).")],
    files: dict[str, Any],
    tissue: measured.TissueFile = None,
    diffusivity: measured.Diffusivity = None,
    basis: Annotated[str, typer.Option(help="krylov or laplace.")] = "krylov",
    method: Annotated[Method, typer.Option(help=METHOD)] = "reduced",
    tolerance: Annotated[float | None, typer.Option(help=TOLERANCE)] = None,
    scale_to_um: measured.Scale = None,
    label_key: measured.LabelKey = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for the signals.")] = "cpu",
    force: measured.Replace = False,
) -> None:
    """Simulate the signal of a mesh for an acquisition.

    Exit code 0: written. 1: an input is refused, with the reason and the remedy. 2: wrong usage.
    """
    if out.suffix not in (".zarr", ".csv"):
        raise ConfigError(f"--out {out}: give a name that ends in .zarr or .csv.")
    if tissue is not None and diffusivity is not None:
        raise ConfigError("--diffusivity excludes --tissue, which has one of each compartment.")
    measured.refuse_existing(out, force)
    given = {} if tolerance is None else {"tolerance": tolerance}
    spec = Basis.checked({"kind": basis} | given, "spinmesh simulate")
    from spinmesh.bodies import simulate_body
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.machine import device_named

    device, acquisition = device_named(device), read_acquisition(**files)
    if is_pack(mesh):
        if method != "reduced" or spec.kind != "krylov" or scale_to_um or label_key is not None:
            raise ConfigError(
                f"{mesh}: a pack has its basis, method, unit and labels; leave them away."
            )
        parts = replayed(mesh, acquisition, tissue, diffusivity, tolerance, device)
        _write(parts.signals, out)
        typer.echo(f"{out}: {len(acquisition)} signals of {mesh}; estimated error {parts.words}")
        return
    shape, filling = measured.filled_mesh(mesh, tissue, diffusivity, scale_to_um, label_key)
    size = f"{len(shape.points):,} points, {len(shape.tets):,} tets"
    typer.echo(f"{mesh}: {size}; simulating {len(acquisition)} measurements", err=True)
    result = simulate_body(shape, filling, acquisition, spec, device, method)
    words = "unknown"
    if result.reduction is not None:
        mesh_error = result.reduction.discretisation_error(filling, acquisition)
        words = f"{mesh_error:.1g}"
        if tolerance is not None:
            result.reduction.check_resolution(mesh_error, tolerance)
    _write(result.signals, out)
    typer.echo(
        f"{out}: {len(acquisition)} signals of {mesh} ({len(shape.tets):,} tets); estimated error "
        f"{result.words} and {words} (mesh) of S0"
    )


def _write(signals: Signals, out: Path) -> None:
    from spinmesh.io import save
    from spinmesh.io.tables import write_signal_table

    if out.suffix == ".csv":
        write_signal_table(signals, out)
    else:
        save(signals, out)


def run() -> None:
    """Entry point: an error of ours is one message and exit code 1, not a traceback."""
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
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(1) from None

"""The command line: one mesh's signals, or one signal's mesh, without the workflow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.cli.mesh import mesh
from spinmesh.cli.reconstruct import reconstruct
from spinmesh.cli.synthesise import synthesise
from spinmesh.errors import ConfigError, MeshWarning, ResolutionWarning, ScaleWarning, SpinmeshError
from spinmesh.settings import Basis, load_tissue

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(mesh)
app.command()(reconstruct)
app.command()(synthesise)

TOLERANCE = (
    "Error of a signal that the basis may cause, as a fraction of the unweighted one; 1e-5 if not "
    "given. If given, a mesh too coarse for it is warned of, and refused if far too coarse."
)


@app.callback()
def main() -> None:
    """Tissue geometry to diffusion-MRI signal. The whole pipeline is run by snakemake."""


@app.command()
@measured.taking_acquisition
def simulate(
    mesh: Annotated[Path, typer.Argument(help="Of tetra or tetra10 cells: .msh, .vtu, .mesh, ...")],
    out: Annotated[Path, typer.Option(help="FILE.zarr or FILE.csv (um^3 times density).")],
    files: dict[str, Any],
    tissue: Annotated[Path | None, typer.Option(help="tissue.yaml, per compartment.")] = None,
    diffusivity: Annotated[
        float | None, typer.Option(help="um^2/ms, of all compartments; 2 without --tissue.")
    ] = None,
    basis: Annotated[str, typer.Option(help="krylov or laplace.")] = "krylov",
    tolerance: Annotated[float | None, typer.Option(help=TOLERANCE)] = None,
    scale_to_um: Annotated[
        float | None,
        typer.Option(help="Length unit of the mesh, um; 1 if left out and the size is plausible."),
    ] = None,
    label_key: Annotated[
        str | None, typer.Option(help="Cell data that holds the compartments' labels.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto, for the signals.")] = "cpu",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store or table of the same name.")
    ] = False,
) -> None:
    """Simulate the signal of a mesh for an acquisition.

    Exit code 0: written. 1: an input is refused, with the reason and the remedy. 2: wrong usage.
    """
    if out.suffix not in (".zarr", ".csv"):
        raise ConfigError(f"--out {out}: give a name that ends in .zarr or .csv.")
    if tissue is not None and diffusivity is not None:
        raise ConfigError("--diffusivity excludes --tissue, which has one of each compartment.")
    measured.refuse_existing(out, force)
    from spinmesh.bodies import device_named, simulate_body
    from spinmesh.io import save
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.io.meshes import read_mesh
    from spinmesh.io.tables import write_signal_table
    from spinmesh.tissue import Tissue

    device = device_named(device)
    given = {} if tolerance is None else {"tolerance": tolerance}
    spec = Basis.checked({"kind": basis} | given, "spinmesh simulate")
    acquisition = read_acquisition(**files)
    shape = read_mesh(mesh, scale_to_um, str(mesh), label_key)
    filling = Tissue.uniform(2.0 if diffusivity is None else diffusivity, labels=shape.labels)
    if tissue is not None:
        filling = Tissue.from_settings(load_tissue(tissue)).filling(shape.labels)
    size = f"{len(shape.points):,} points, {len(shape.tets):,} tets"
    typer.echo(f"{mesh}: {size}; reducing for {len(acquisition)} measurements", err=True)
    result = simulate_body(shape, filling, acquisition, spec, device)
    mesh_error = result.reduction.discretisation_error(filling, acquisition)
    if tolerance is not None:
        result.reduction.check_resolution(mesh_error, tolerance)
    signals = result.signals
    if out.suffix == ".csv":
        write_signal_table(signals, out)
    else:
        save(signals, out)
    typer.echo(
        f"{out}: {len(acquisition)} signals of {mesh} ({len(shape.tets):,} tets); estimated error "
        f"{result.words} and {mesh_error:.1g} (mesh) of S0"
    )


def run() -> None:
    """Entry point: an error of ours is one message and exit code 1, not a traceback."""
    # Of warnings, those of ours are for the user; what libraries say to programmers is not.
    warnings.simplefilter("ignore")
    for category in (MeshWarning, ResolutionWarning, ScaleWarning):
        warnings.simplefilter("default", category)
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    try:
        app()
    except SpinmeshError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(1) from None

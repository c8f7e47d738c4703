"""The command line: one mesh's signals, or one signal's mesh, without the workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinmesh.cli.reconstruct import reconstruct
from spinmesh.errors import ConfigError, SpinmeshError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(reconstruct)


@app.callback()
def main() -> None:
    """Tissue geometry to diffusion-MRI signal. The whole pipeline is run by snakemake."""


@app.command()
def simulate(
    mesh: Annotated[Path, typer.Argument(help="Mesh file: .msh, .vtu, .mesh (tetra, tetra10).")],
    out: Annotated[Path, typer.Option(help="FILE.zarr or FILE.csv.")],
    scheme: Annotated[str | None, typer.Option(help="Camino STEJSKALTANNER scheme.")] = None,
    bvals: Annotated[str | None, typer.Option(help="FSL b-values, s/mm^2.")] = None,
    bvecs: Annotated[str | None, typer.Option(help="FSL directions.")] = None,
    delta: Annotated[
        str | None, typer.Option("--delta", help="Pulse duration, ms, or file.")
    ] = None,
    Delta: Annotated[
        str | None, typer.Option("--Delta", help="Onset to onset, ms, or file.")
    ] = None,
    tissue: Annotated[Path | None, typer.Option(help="tissue.yaml, per compartment.")] = None,
    diffusivity: Annotated[float, typer.Option(help="um^2/ms, without --tissue.")] = 2.0,
    basis: Annotated[str, typer.Option(help="krylov or laplace.")] = "krylov",
    scale_to_um: Annotated[float, typer.Option(help="Length unit of the mesh in um.")] = 1.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Simulate the signal of a mesh for an acquisition."""
    if out.suffix not in (".zarr", ".csv"):
        raise ConfigError(f"--out {out}: give a name that ends in .zarr or .csv.")
    from spinmesh.bloch_torrey import Basis, simulate_mesh
    from spinmesh.config import load_tissue
    from spinmesh.io import save
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.io.meshes import read_mesh
    from spinmesh.io.tables import write_signal_table
    from spinmesh.tissue import Tissue

    acquisition = read_acquisition(
        bvals=bvals,
        bvecs=bvecs,
        delta_ms=_number_or_file(delta),
        Delta_ms=_number_or_file(Delta),
        scheme=scheme,
    )
    shape = read_mesh(mesh, scale_to_um)
    filling = Tissue.uniform(diffusivity, labels=shape.labels)
    if tissue is not None:
        filling = load_tissue(tissue).tissue()
    signals = simulate_mesh(shape, filling, acquisition, Basis(basis), device)
    if out.suffix == ".csv":
        write_signal_table(signals, out)
    else:
        save(signals, out)
    typer.echo(f"{out}: {len(acquisition)} signals of {shape.name} ({len(shape.tets):,} tets)")


def _number_or_file(value: str | None) -> float | str | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return value


def run() -> None:
    """Entry point: an error of ours is one message and exit code 1, not a traceback."""
    try:
        app()
    except SpinmeshError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(1) from None

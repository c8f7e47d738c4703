"""`spinmesh reduce`: a mesh's reduced models, and the signals of any protocol from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError
from spinmesh.settings import Basis, load_tissue

if TYPE_CHECKING:
    from spinmesh.bodies import Parts
    from spinmesh.sequence import Acquisition


@measured.taking_acquisition
def reduce(
    mesh: Annotated[Path, typer.Argument(help="Of tetra or tetra10 cells: .msh, .vtu, .mesh, ...")],
    out: Annotated[Path, typer.Option(help="FILE.zarr, the pack.")],
    files: dict[str, Any],
    strongest_gradient: Annotated[
        float | None, typer.Option(min=0, help="mT/m; with --longest-time in place of a protocol.")
    ] = None,
    longest_time: Annotated[
        float | None, typer.Option(min=0, help="ms, of an echo; with --strongest-gradient.")
    ] = None,
    tissue: measured.TissueFile = None,
    diffusivity: measured.Diffusivity = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest error of a signal, as a fraction of the unweighted one.")
    ] = 1e-4,
    scale_to_um: measured.Scale = None,
    label_key: measured.LabelKey = None,
    force: measured.Replace = False,
) -> None:
    """Keep the reduced models of a mesh, from which `spinmesh simulate` replays protocols.

    They are made for a protocol, or for what a scanner can do.
    """
    if out.suffix != ".zarr":
        raise ConfigError(f"--out {out}: give a name that ends in .zarr.")
    strength = [value for value in (strongest_gradient, longest_time) if value]
    if len(strength) != (0 if files else 2):
        raise ConfigError(
            "give either a protocol (--scheme, or --bvals and what belongs to it) or both of "
            "--strongest-gradient and --longest-time, above 0."
        )
    measured.refuse_existing(out, force)
    from spinmesh.bodies import reduce, strongest_protocol
    from spinmesh.io import save
    from spinmesh.io.acquisitions import read_acquisition

    basis = Basis.checked({"tolerance": tolerance}, "spinmesh reduce")
    protocol = read_acquisition(**files) if files else strongest_protocol(*strength)
    shape, filling = measured.filled_mesh(mesh, tissue, diffusivity, scale_to_um, label_key)
    pack = reduce(shape, filling, protocol, basis)
    save(pack, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    sizes = pack.models.sizes[:, 1]
    numbers = {"models": len(sizes), "functions": int(sizes.max()), "megabytes": size}
    words = "{models} reduced models of at most {functions} functions, {megabytes:.2g} MB"
    reach = f"for echoes up to {2 * pack.half_time:g} ms at {tolerance:g} of S0"
    words = f"{out}: {mesh} in {words.format(**numbers)}; {reach}"
    measured.tell(words, file=str(out), mesh=str(mesh), **numbers)


def is_pack(path: Path) -> bool:
    """Whether a path is a store that calls itself a pack."""
    from spinmesh.io.store import GROUP, attributes_of

    return (path / GROUP).is_file() and attributes_of(path).get("schema") == "spinmesh/pack"


def replayed(
    path: Path,
    acquisition: Acquisition,
    tissue: Path | None,
    diffusivity: float | None,
    tolerance: float | None,
    device: str,
) -> Parts:
    """Signals from a pack, whose tissue is changed as far as that is exact."""
    from spinmesh.bodies import Pack, replay
    from spinmesh.io import load
    from spinmesh.tissue import Tissue

    pack = load(Pack, path)
    filling = before = Tissue.from_settings(pack.tissue)
    if tissue is not None:
        filling = Tissue.from_settings(load_tissue(tissue)).filling(before.labels)
    if diffusivity is not None:
        everywhere = Tissue.uniform(diffusivity, labels=before.labels).diffusivity
        filling = replace(before, diffusivity=everywhere)
    return replay(pack, acquisition, filling, device, tolerance=tolerance)

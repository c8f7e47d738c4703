"""`spinmesh maps`: a posterior for every voxel of a diffusion series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spinmesh.cli import measured


@measured.taking_acquisition
def maps(
    dwi: Annotated[Path, typer.Argument(help="BIDS folder, or .nii or .nii.gz.")],
    model: Annotated[Path, typer.Option(help="Store of a map model (make maps).")],
    out: measured.Out,
    files: dict[str, Any],
    mask: Annotated[
        Path | None, typer.Option(help="Voxels to map; left out: all with a signal.")
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(help="Of the unweighted signal; estimated from repeats if left out."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    force: measured.Force = False,
) -> None:
    """Map the tissue of every voxel: median, 10 %, 90 %, shrinkage and flags, as a BIDS derivative.

    bval, bvec and sidecar are those beside the image unless given. The series must have the shells
    that the model was trained with.
    """
    # Everything a user can get wrong is looked at before the first second of compute.
    measured.refuse_full(out, force)
    from spinmesh.io import load
    from spinmesh.io.bids import map_series, write_posterior
    from spinmesh.machine import device_named
    from spinmesh.maps import MapModel
    from spinmesh.maps.model import FLAGS

    device = device_named(device)
    answer, image = map_series(load(MapModel, model), dwi, mask, snr, device, **files)
    write_posterior(answer, out, image)
    flags = answer.answers.flags
    counts = {name: int(((flags & bit) > 0).sum()) for name, bit in FLAGS.items()}
    words = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
    typer.echo(f"{out}: {len(flags):,} voxels; flagged: {words}")

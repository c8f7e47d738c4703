"""`spinmesh maps` and `classify`: what trained models make of a diffusion series, and of sounds."""

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
    told = {"file": str(out), "voxels": len(flags), "flagged": counts}
    measured.tell(f"{out}: {len(flags):,} voxels; flagged: {words}", **told)


def classify(
    files: Annotated[list[Path], typer.Argument(help="Wav files, each of one chest.")],
    model: Annotated[Path, typer.Option(help="Store of a sound model, of make respiratory.")],
    out: Annotated[Path | None, typer.Option(help="Table of the probabilities (.csv).")] = None,
    force: measured.Force = False,
) -> None:
    """Probability of every class for each recording: the mean over its windows.

    A sound that is clipped, or whose rate is not what its file says, is answered with a warning;
    one that is silent or too short is refused, and then none is answered.
    """
    if out is not None:
        measured.refuse_existing(out, force)
    from spinmesh.estimators.ensemble import SoundModel
    from spinmesh.estimators.lung_sounds import window_examples
    from spinmesh.io import load
    from spinmesh.io.sounds import read_wav
    from spinmesh.io.tables import write_rows
    from spinmesh.sounds import refuse_unusable

    trained = load(SoundModel, model)
    for file in files:
        refuse_unusable(read_wav(file), trained.features.seconds)
    rows = []
    for file in files:
        windows = window_examples([read_wav(file)], trained.features)
        answers = trained.probabilities(windows).mean(0).tolist()
        probability = dict(zip(trained.names.classes, answers, strict=True))
        rows.append({"file": str(file), **probability})
        likeliest = sorted(probability, key=probability.__getitem__, reverse=True)
        words = ", ".join(f"{name} {probability[name]:.3f}" for name in likeliest)
        measured.tell(f"{file}: {words}", file=str(file), probability=probability)
    if out is not None:
        write_rows(rows, out)

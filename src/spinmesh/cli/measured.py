"""What the commands share: options of an acquisition and a measured signal, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmesh.errors import ConfigError

if TYPE_CHECKING:
    from spinmesh.inversion import Target
    from spinmesh.sequence import Acquisition

SCHEME = (
    "Camino scheme, STEJSKALTANNER or GRADIENT_WAVEFORM (s, T/m), or a .csv of waveforms (ms, "
    "mT/m). Excludes --bvals, --bvecs, --delta and --Delta."
)
Scheme = Annotated[str | None, typer.Option(help=SCHEME)]
Bvals = Annotated[
    str | None, typer.Option(help="FSL b-values, s/mm^2; with --bvecs, --delta and --Delta.")
]
Bvecs = Annotated[str | None, typer.Option(help="FSL unit directions, three rows.")]
PulseDuration = Annotated[
    str | None,
    typer.Option("--delta", help="Pulse duration, ms: a number, or a file with one each."),
]
Separation = Annotated[
    str | None,
    typer.Option("--Delta", help="Onset to onset, ms: a number, or a file with one each."),
]
Voxel = Annotated[str | None, typer.Option(help="I,J,K of the voxel, from 0.")]
Roi = Annotated[Path | None, typer.Option(help="Mask whose mean signal is taken.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="Every random number follows from it.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder with files.")]


def acquisition_of(
    scheme: str | None, bvals: str | None, bvecs: str | None, delta: str | None, Delta: str | None
) -> Acquisition:
    """What the five options name; ConfigError if they do not go together."""
    from spinmesh.io.acquisitions import read_acquisition

    return read_acquisition(
        bvals=bvals,
        bvecs=bvecs,
        delta_ms=_number_or_file(delta),
        Delta_ms=_number_or_file(Delta),
        scheme=scheme,
    )


def target_of(
    signal: Path, acquisition: Acquisition, snr: float | None, voxel: str | None, roi: Path | None
) -> Target:
    """The measured signal in a file of either kind."""
    from spinmesh.io.targets import read_target

    if signal.name.endswith((".nii", ".nii.gz")):
        return read_target(acquisition, snr, nifti=signal, voxel=_indices(voxel), roi=roi)
    if signal.suffix == ".csv":
        return read_target(acquisition, snr, csv=signal, voxel=_indices(voxel), roi=roi)
    raise ConfigError(f"{signal}: unknown kind of file. Give a .csv, .nii or .nii.gz.")


def refuse_full(out: Path, force: bool, apart: str = "") -> None:
    """ConfigError if the folder holds anything but the file `apart`, unless `force`."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file. Give a folder.")
    if out.is_dir() and {file.name for file in out.iterdir()} - {apart} and not force:
        raise ConfigError(
            f"--out {out}: the folder is not empty. Give another one, or --force to replace the "
            "results in it."
        )


def _number_or_file(value: str | None) -> float | str | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return value


def _indices(voxel: str | None) -> tuple[int, int, int] | None:
    if voxel is None:
        return None
    try:
        i, j, k = (int(word) for word in voxel.split(","))
    except ValueError:
        raise ConfigError(f"--voxel {voxel}: give three indices from 0, as 40,52,30.") from None
    return i, j, k

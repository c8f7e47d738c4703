"""What the commands share: options of an acquisition and a measured signal, and what they mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.errors import ConfigError

if TYPE_CHECKING:
    from spinmesh.inversion import Target
    from spinmesh.sequence import Acquisition

SCHEME = (
    "Camino scheme, STEJSKALTANNER or GRADIENT_WAVEFORM (s, T/m), or a .csv of waveforms (ms, "
    "mT/m), which exclude --delta and --Delta; or an MRtrix table x y z b. Excludes --bvals."
)
TIME = "ms: a number, or a file with one each."
IMAGE = "NIfTI whose axes --bvecs are along; the measured image, else world axes."
THRESHOLD = "s/mm^2; up to this b a measurement is unweighted [default: 50]."
# The options of an acquisition, by the names that `read_acquisition` has for them.
ACQUISITION = {
    "scheme": Annotated[str | None, typer.Option(help=SCHEME)],
    "bvals": Annotated[
        str | None, typer.Option(help="FSL b-values, s/mm^2; with --bvecs, --delta and --Delta.")
    ],
    "bvecs": Annotated[str | None, typer.Option(help="FSL unit directions, three rows.")],
    "delta_ms": Annotated[str | None, typer.Option("--delta", help=f"Pulse duration, {TIME}")],
    "Delta_ms": Annotated[str | None, typer.Option("--Delta", help=f"Onset to onset, {TIME}")],
    "TE_ms": Annotated[
        str | None, typer.Option("--TE", help=f"Echo time, {TIME} The pulses' end if not given.")
    ],
    "sidecar": Annotated[
        str | None, typer.Option(help="BIDS JSON file with delta, Delta and TE, in seconds.")
    ],
    "image": Annotated[str | None, typer.Option(help=IMAGE)],
    "b0_threshold_s_per_mm2": Annotated[
        float | None, typer.Option("--b0-threshold", min=0, help=THRESHOLD)
    ],
}
Voxel = Annotated[str | None, typer.Option(help="I,J,K of the voxel, from 0.")]
Roi = Annotated[Path | None, typer.Option(help="Mask whose mean signal is taken.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Every random number follows from it.")
]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder with files.")]


def taking_acquisition(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of an acquisition in place of its parameter `files`.

    `files` is then what was given of them, as `read_acquisition` takes it.
    """
    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, keyword, default=None, annotation=option)
        for name, option in ACQUISITION.items()
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += options if name == "files" else [parameter.replace(kind=keyword)]

    @wraps(command)
    def with_options(**values: Any) -> None:
        named = {name: values.pop(name) for name in ACQUISITION}
        files = {name: value for name, value in named.items() if value is not None}
        times = {name: _number_or_file(files[name]) for name in files if name.endswith("_ms")}
        command(files=files | times, **values)

    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def along_image(files: dict[str, Any], signal: Path) -> dict[str, Any]:
    """With the measured image as the one that FSL's directions are along, if none is given."""
    return ({"image": str(signal)} if _is_nifti(signal) else {}) | files


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def target_of(
    signal: Path, acquisition: Acquisition, snr: float | None, voxel: str | None, roi: Path | None
) -> Target:
    """The measured signal in a file of either kind."""
    from spinmesh.io.targets import read_target

    if _is_nifti(signal):
        return read_target(acquisition, snr, nifti=signal, voxel=_indices(voxel), roi=roi)
    if signal.suffix == ".csv":
        return read_target(acquisition, snr, csv=signal, voxel=_indices(voxel), roi=roi)
    raise ConfigError(f"{signal}: unknown kind of file. Give a .csv, .nii or .nii.gz.")


def refuse_existing(out: Path, force: bool) -> None:
    """An error if the store or file exists, unless `force`, or cannot be written."""
    from spinmesh.io.store import refuse_foreign

    refuse_unwritable(out)
    if out.exists() and not force:
        raise ConfigError(f"--out {out}: exists. Give another name, or --force to replace it.")
    if out.suffix == ".zarr":
        refuse_foreign(out)
    elif out.is_dir() or out.is_symlink():
        raise ConfigError(f"--out {out}: is a folder or a link. Give another name.")


def refuse_unwritable(out: Path) -> None:
    """ConfigError if nothing can be written at a path, before anything is computed."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    if folder == out.absolute() and not out.is_dir():
        folder = folder.parent
    try:
        # The superuser may write everywhere but where nobody can: only trying tells.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {out}: {folder} cannot be written to. Give another place."
        ) from error


def refuse_full(out: Path, force: bool, apart: str = "") -> None:
    """ConfigError if the folder holds anything but the file `apart`, unless `force`."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file. Give a folder.")
    refuse_unwritable(out)
    if out.is_dir() and {file.name for file in out.iterdir()} - {apart} and not force:
        raise ConfigError(
            f"--out {out}: the folder is not empty. Give another one, or --force to replace the "
            "results in it."
        )


def _number_or_file(value: str) -> float | str:
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

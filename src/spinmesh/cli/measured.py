"""What the commands share: options of an acquisition and a measured signal, and how they answer."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.errors import ConfigError
from spinmesh.files.places import ObjectPath, place_each
from spinmesh.settings import AcquisitionFiles, load_tissue

if TYPE_CHECKING:
    from spinmesh.inversion import Target
    from spinmesh.mesh import TetMesh
    from spinmesh.tissue import Tissue

# What the endings of keys stand for, as the help says it.
UNITS = {"_ms": "ms. ", "_s_per_mm2": "s/mm^2. "}
Voxel = Annotated[str | None, typer.Option(help="I,J,K of the voxel, from 0.")]
Roi = Annotated[Path | None, typer.Option(help="Mask whose mean signal is taken.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Every random number follows from it.")
]
TissueFile = Annotated[Path | None, typer.Option(help="tissue.yaml, per compartment.")]
Diffusivity = Annotated[
    float | None, typer.Option(help="um^2/ms, of all compartments; 2 without --tissue.")
]
Scale = Annotated[
    float | None,
    typer.Option(help="Length unit of the mesh, um; 1 if left out and the size is plausible."),
]
LabelKey = Annotated[
    str | None, typer.Option(help="Cell data that holds the compartments' labels.")
]
Replace = Annotated[
    bool, typer.Option("--force", help="Replace a store or table of the same name.")
]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder with files.")]


# Whether a command answers in JSON.
_IN_JSON: ContextVar[bool] = ContextVar("in_json", default=False)


def tell(words: str, **values: Any) -> None:
    """Say a result on stdout: in words, or if --json was given the values as one line of JSON."""
    typer.echo(json.dumps(values, default=str) if _IN_JSON.get() else words)


def answering(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option --json, which `tell` follows."""
    signature = inspect.signature(command, eval_str=True)
    words = "Results as JSON on stdout, one object a line."
    kind = Annotated[bool, typer.Option("--json", help=words)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    option = inspect.Parameter("in_json", keyword, default=False, annotation=kind)

    def with_json(*, in_json: bool, **values: Any) -> None:
        _IN_JSON.set(in_json)
        command(**{name: place_each(value) for name, value in values.items()})

    parameters = [each.replace(kind=keyword) for each in signature.parameters.values()]
    return _with_parameters(command, with_json, [*parameters, option])


def taking_acquisition(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the keys of `AcquisitionFiles` as options in place of `files`.

    `files` is then what was given of them, as `read_acquisition` takes it.
    """
    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += _acquisition() if name == "files" else [parameter.replace(kind=keyword)]

    def with_options(**values: Any) -> None:
        given = {name: values.pop(name) for name in AcquisitionFiles.model_fields}
        files = {name: value for name, value in given.items() if value is not None}
        times = {name: _number_or_file(files[name]) for name in files if name.endswith("_ms")}
        command(files=files | times, **values)

    return _with_parameters(command, with_options, parameters)


def _with_parameters(
    command: Callable[..., None], changed: Callable[..., None], parameters: Sequence[Any]
) -> Callable[..., None]:
    """`changed`, called as the command, with these parameters for typer to read."""
    changed = wraps(command)(changed)
    changed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    changed.__annotations__ = {each.name: each.annotation for each in parameters}
    return changed


def _acquisition() -> list[inspect.Parameter]:
    """An option for each key, with its unit in the help instead of the name."""
    options = []
    for name, field in AcquisitionFiles.model_fields.items():
        ending = next(filter(name.endswith, UNITS), "")
        flag = "--" + name.removesuffix(ending).replace("_", "-")
        words = UNITS.get(ending, "") + (field.description or "").replace("null:", "if left out:")
        kind: Any = Annotated[str | None, typer.Option(flag, help=words)]
        if field.annotation is float:
            words += f" {field.default:g} if left out."
            kind = Annotated[float | None, typer.Option(flag, min=0, help=words)]
        options.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        )
    return options


def filled_mesh(
    mesh: Path,
    tissue: Path | None,
    diffusivity: float | None,
    scale_to_um: float | None,
    label_key: str | None,
) -> tuple[TetMesh, Tissue]:
    """The tetrahedra of a file, and what fills them."""
    from spinmesh.io.meshes import read_mesh
    from spinmesh.tissue import Tissue

    shape = read_mesh(mesh, scale_to_um, str(mesh), label_key)
    filling = Tissue.uniform(2.0 if diffusivity is None else diffusivity, labels=shape.labels)
    if tissue is not None:
        filling = Tissue.from_settings(load_tissue(tissue)).filling(shape.labels)
    return shape, filling


def target_of(
    signal: Path, files: dict[str, Any], snr: float | None, voxel: str | None, roi: Path | None
) -> Target:
    """The measured signal in a table, or in an image along whose axes FSL's directions then are."""
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.io.targets import read_target

    table, image = (signal, None) if signal.suffix == ".csv" else (None, signal)
    if image is not None:
        if not image.name.endswith((".nii", ".nii.gz")):
            raise ConfigError(f"{signal}: unknown kind of file. Give a .csv, .nii or .nii.gz.")
        files = {"image": str(image)} | files
    return read_target(read_acquisition(**files), snr, table, image, _indices(voxel), roi)


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
    """ConfigError if nothing can be written at a path, before anything is computed.

    Of an object store what `ObjectPath` raises.
    """
    if isinstance(out, ObjectPath):
        return out.check_writable()
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
    if isinstance(out, ObjectPath):
        raise ConfigError(f"--out {out}: give a folder on a disk. Only stores are written there.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file. Give a folder.")
    refuse_unwritable(out)
    if out.is_dir() and {file.name for file in out.iterdir()} - {apart} and not force:
        raise ConfigError(
            f"--out {out}: the folder is not empty. Give another one, or --force to replace the "
            "results in it."
        )


def write_summary(folder: Path, signal: Path | None, seed: int, numbers: dict[str, Any]) -> None:
    """summary.json of a command's results, written last."""
    from spinmesh.io import write_text
    from spinmesh.provenance import package_version

    head = {"signal": None if signal is None else str(signal), "seed": seed}
    summary = head | {"package_version": package_version()} | numbers
    write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", folder / "summary.json")


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

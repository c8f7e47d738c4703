"""`spinmesh mesh`: from what a lab has of its tissue to checked tetrahedra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError, MeshError

if TYPE_CHECKING:
    from numpy import ndarray

    from spinmesh.meshing.fill import Filling
    from spinmesh.meshing.process import Limits
    from spinmesh.meshing.surface import Surface

VOLUMES = (".nii", ".nii.gz")
OUT = (".zarr", ".vtu", ".msh")
INPUTS = (
    "Closed surfaces (.ply, .stl, .obj, .off, .vtp, .wrl) and skeletons (.swc, .csv, .txt), each a "
    "compartment, nested or apart; or one label volume (.nii), or one file of tetrahedra."
)
COMPARTMENTS = (
    "Labels in place of 1, 2, ... that the inputs, what lies within a part of the same input, and "
    "last the water get: 1,1,3. 0 stays empty."
)
TIGHT = "Water within this distance (um) of the surfaces."


def mesh(
    inputs: Annotated[list[Path], typer.Argument(help=INPUTS)],
    out: Annotated[Path | None, typer.Option(help="FILE.zarr, FILE.vtu or FILE.msh.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Report on the inputs; 1 if one is unusable.")
    ] = False,
    size: Annotated[
        float | None,
        typer.Option(help="um, of edges away from surfaces; twice their median edge if left out."),
    ] = None,
    box: Annotated[bool, typer.Option("--box", help="Water in a box around all.")] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="um from the surfaces to the box; a tenth of its length if left out."),
    ] = None,
    tight: Annotated[float | None, typer.Option(help=TIGHT)] = None,
    compartments: Annotated[str | None, typer.Option(help=COMPARTMENTS)] = None,
    scale_to_um: Annotated[
        float | None,
        typer.Option(help="Length unit of the inputs, um; 1 if left out and the size plausible."),
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="s, for the mesher.")] = 3600.0,
    memory_limit: Annotated[
        float | None, typer.Option(min=0.1, help="GB, for the mesher; 80 % of the machine's.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store or file of the same name.")
    ] = False,
) -> None:
    """Mesh surfaces, or check what is there, and say what was repaired.

    Exit code 0: written, or usable. 1: an input is refused or unusable. 2: wrong usage.
    """
    if check:
        if out is not None:
            raise ConfigError("--check writes nothing: leave --out away, or --check.")
        raise typer.Exit(0 if _checked(inputs, scale_to_um) else 1)
    if out is None or out.suffix not in OUT:
        raise ConfigError(f"--out {out or ''}: give a name that ends in {', '.join(OUT)}.")
    if box and tight is not None:
        raise ConfigError("--box excludes --tight: give one outer surface of the water.")
    if margin is not None and not box:
        raise ConfigError("--margin is the box's: give --box, or --tight MARGIN instead.")
    if size is not None and not size > 0:
        raise ConfigError(f"--size {size}: give a length > 0, in um.")
    measured.refuse_existing(out, force)
    labels = _numbers(compartments)
    from spinmesh.meshing.process import Limits

    limits = Limits(time_limit) if memory_limit is None else Limits(time_limit, memory_limit)
    if any(map(_is_volume, inputs)):
        if len(inputs) > 1 or tight is not None or margin is not None or labels is not None:
            raise ConfigError(
                f"{inputs[0]}: a label volume is meshed alone, with its own labels, and with "
                "--box the voxels of label 0 as water. Leave other options away."
            )
        made, notes = _labelled(inputs[0], scale_to_um, box, size, limits), list[str]()
    elif not any(map(_is_fillable, inputs)):
        if box or tight is not None or labels is not None or size is not None:
            raise ConfigError(f"{inputs[0]}: tetrahedra stay as they are; leave options away.")
        made, notes = _tetrahedra(inputs, scale_to_um), list[str]()
    else:
        surface, notes, grown = _surfaces(inputs, scale_to_um, size, limits)
        if grown is not None and not box and tight is None and labels is None:
            made = grown
        else:
            made = _filled(_with_water(surface, box, margin, tight, size), labels, size, limits)
    _write(made, list(dict.fromkeys([*notes, *made.notes])), inputs, out)


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words):
        raise ConfigError(f"--compartments {text}: give whole numbers, such as 1,2,3.")
    return [int(word) for word in words]


def _is_surface(path: Path) -> bool:
    from spinmesh.meshing.files import SURFACES

    return path.suffix.lower() in SURFACES


def _is_skeleton(path: Path) -> bool:
    from spinmesh.skeletons.files import SKELETONS

    return path.suffix.lower() in SKELETONS


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(VOLUMES)


def _is_fillable(path: Path) -> bool:
    return _is_surface(path) or _is_skeleton(path)


def _surfaces(
    inputs: Sequence[Path], scale_to_um: float | None, size: float | None, limits: Limits
) -> tuple[Surface, list[str], Filling | None]:
    """All inputs as one surface, what was mended in them, and tets if one skeleton is all."""
    from spinmesh.meshing.files import read_surface
    from spinmesh.meshing.surface import united
    from spinmesh.skeletons.files import read_skeletons
    from spinmesh.skeletons.grown import grown

    surfaces, fillings, notes = [], [], []
    for path in inputs:
        if _is_skeleton(path):
            made = [grown(each, size, limits) for each in read_skeletons(path, scale_to_um)]
            surfaces += [surface for surface, _ in made]
            fillings += [filling for _, filling in made]
            notes += [note for _, filling in made for note in filling.notes[:-1]]
        else:
            surface, faults = read_surface(path, scale_to_um)
            surfaces.append(surface)
            notes += [f"{path}: {fault}" for fault in faults]
    alone = fillings[0] if len(surfaces) == len(fillings) == 1 else None
    return united(surfaces), notes, alone


def _tetrahedra(inputs: Sequence[Path], scale_to_um: float | None) -> Filling:
    from spinmesh.io.meshes import read_mesh
    from spinmesh.meshing.fill import Filling

    if len(inputs) > 1:
        raise ConfigError(
            f"{len(inputs)} inputs of tetrahedra: give one, or closed surfaces to be filled."
        )
    shape = read_mesh(inputs[0], scale_to_um)
    return Filling(shape, {label: str(inputs[0]) for label in shape.labels}, ())


def _labelled(
    path: Path, scale_to_um: float | None, water: bool, size: float | None, limits: Limits
) -> Filling:
    from spinmesh.meshing.labels import mesh_labels

    labels, affine = _read_labels(path, scale_to_um)
    return mesh_labels(labels, affine, str(path), water, size, limits)


def _read_labels(path: Path, scale_to_um: float | None) -> tuple[ndarray, ndarray]:
    """Labels, and the affine to um; a size that no cell has in um is refused."""
    import numpy as np

    from spinmesh.io.volumes import read_labels
    from spinmesh.meshing.files import factor_of, question_unit

    factor = factor_of(path, scale_to_um)
    labels, affine = read_labels(path)
    affine[:3] *= factor
    if scale_to_um is None:
        question_unit(path, float((np.linalg.norm(affine[:3, :3], axis=0) * labels.shape).max()))
    return labels, affine


def _with_water(
    surface: Surface, box: bool, margin: float | None, tight: float | None, size: float | None
) -> Surface:
    from spinmesh.meshing.water import in_box, in_wrap

    if box:
        return in_box(surface, margin, size)
    return surface if tight is None else in_wrap(surface, tight)


def _filled(
    surface: Surface, labels: list[int] | None, size: float | None, limits: Limits
) -> Filling:
    from spinmesh.meshing.fill import fill, labels_of

    usual = labels_of(surface)
    if labels is not None:
        if len(labels) != max(usual):
            raise ConfigError(
                f"--compartments has {len(labels)} numbers for {max(usual)} compartments. Give one "
                "for each, in the order in which they are printed without it."
            )
        usual = [labels[number - 1] for number in usual]
    return fill(surface, usual, size, limits)


def _write(made: Filling, notes: list[str], inputs: Sequence[Path], out: Path) -> None:
    from spinmesh.io import save
    from spinmesh.io.meshes import write_mesh
    from spinmesh.meshing.check import check_tets
    from spinmesh.provenance import Provenance

    shape = made.mesh.with_points(made.mesh.points, out.stem)
    report = check_tets(shape)
    if not report.usable:
        raise MeshError(f"{', '.join(map(str, inputs))}: {report.lines[-1]}")
    words = [f"compartment {label}: {name}" for label, name in made.names.items()]
    if out.suffix == ".zarr":
        save(shape, out, Provenance(notes=(*words, *notes)))
    else:
        write_mesh(shape, out)
    for line in (*words, *notes, *report.lines):
        typer.echo(f"  {line}")
    typer.echo(f"{out}: {len(shape.tets):,} tets in {len(shape.labels)} compartments")


def _checked(inputs: Sequence[Path], scale_to_um: float | None) -> bool:
    """Whether all inputs can be used; prints a report on each, and on all surfaces together."""
    from spinmesh.meshing.check import check_surface, check_tets
    from spinmesh.meshing.faults import faults_of
    from spinmesh.meshing.files import read_surface, unit_of
    from spinmesh.meshing.surface import united
    from spinmesh.skeletons.files import described, read_skeletons

    usable, surfaces = True, []
    for path in inputs:
        if _is_surface(path):
            surface, mended = read_surface(path, scale_to_um or 1.0)
            surfaces.append(surface)
            lines = list(check_surface(surface, mended).lines)
            if scale_to_um is None and unit_of(surface.length) != "um":
                lines.append("FAULT: of no cell's size in um; give --scale-to-um")
        elif _is_volume(path):
            lines = _described_labels(path, scale_to_um)
        elif _is_skeleton(path):
            lines = [line for each in read_skeletons(path, scale_to_um) for line in described(each)]
        else:
            lines = list(check_tets(_tetrahedra([path], scale_to_um).mesh).lines)
        faulty = any(line.startswith("FAULT") for line in lines)
        usable = usable and not faulty
        typer.echo(f"{path}: {'UNUSABLE' if faulty else 'usable'}")
        for line in lines:
            typer.echo(f"  {line}")
    if usable and len(surfaces) > 1:
        between = faults_of(united(surfaces))
        for fault in between:
            typer.echo(f"together: {fault}")
        usable = not between
    return usable


def _described_labels(path: Path, scale_to_um: float | None) -> list[str]:
    """Voxels and volume of each label of a label volume, and the size of its box."""
    import numpy as np

    labels, affine = _read_labels(path, scale_to_um)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    size = " x ".join(f"{side:.4g}" for side in sides)
    counts = zip(*np.unique(labels, return_counts=True), strict=True)
    return [
        f"{' x '.join(map(str, labels.shape))} voxels of {size} um",
        *(
            f"  label {label}: {count:,} voxels, {count * sides.prod():.5g} um^3"
            for label, count in counts
        ),
    ]

"""What people have of tissue to tetrahedra: the one way of the command line and the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from spinmesh.errors import ConfigError, MeshError
from spinmesh.io.meshes import read_mesh
from spinmesh.io.store import is_foreign_zarr
from spinmesh.io.volumes import read_labels
from spinmesh.mesh.bundle import bundle_of
from spinmesh.mesh.curved import curved
from spinmesh.meshing.check import check_tets
from spinmesh.meshing.files import SURFACES, factor_of, question_unit, read_surface
from spinmesh.meshing.fill import Filling, fill, labels_of
from spinmesh.meshing.labels import mesh_labels
from spinmesh.meshing.process import Limits
from spinmesh.meshing.surface import Surface, united
from spinmesh.meshing.water import in_box, in_wrap
from spinmesh.settings import MeshInput, MeshOptions, PackedBundle, load_bundle
from spinmesh.skeletons.files import SKELETONS, Skeleton, read_skeletons
from spinmesh.skeletons.grown import grown
from spinmesh.skeletons.substrate import read_substrate
from spinmesh.skeletons.walls import cut_to_cell

VOLUMES = (".nii", ".nii.gz", ".tif", ".tiff")
BUNDLES = (".yaml", ".yml")
SUBSTRATES = ".json"
OPTIONS = set(MeshOptions.model_fields)


def build(inputs: Sequence[str | Path], options: MeshOptions) -> Filling:
    """A checked mesh of the inputs, each a compartment, as the options say; lengths in um.

    Options may be an entry of `mesh.inputs` that is a bundle and has no inputs.
    Its notes say what was repaired. Raises ConfigError for options that the kind of input cannot
    have, MeshError where an input is refused or the mesh is unusable.
    """
    if isinstance(options, MeshInput) and options.bundle is not None:
        filling = pack(options.bundle, options.row)
    else:
        paths = [Path(path) for path in inputs]
        kind = common_kind(paths, options)
        make = {"labels": _labelled, "tetrahedra": _tetrahedra, "bundle": _packed}
        filling = make.get(kind, _filled)(paths, options)
    if options.curved:
        shape, note = curved(filling.mesh, filling.solids)
        filling = replace(filling, mesh=shape, notes=(*filling.notes, note))
    report = check_tets(filling.mesh)
    if not report.usable:
        raise MeshError(f"{', '.join(map(str, inputs))}: {report.lines[-1]}")
    return replace(filling, notes=tuple(dict.fromkeys(filling.notes)))


Kind = Literal["surface", "skeleton", "substrate", "labels", "bundle", "tetrahedra"]


def kind_of(path: Path) -> Kind:
    """What a file holds, by its suffix."""
    if path.suffix.lower() in SURFACES:
        return "surface"
    if path.suffix.lower() in SKELETONS:
        return "skeleton"
    if path.suffix.lower() in BUNDLES:
        return "bundle"
    if path.suffix.lower() == SUBSTRATES:
        return "substrate"
    labels = path.name.lower().endswith(VOLUMES) or is_foreign_zarr(path)
    return "labels" if labels else "tetrahedra"


def pack(settings: PackedBundle, row: int = 0) -> Filling:
    """A packed bundle with its water, of one `row` of those that its ranges stand for.

    Its notes say what was drawn and how it repeats itself. Raises MeshError if its axons find no
    room, or if a deformation folds it, naming the parameter to blame.
    """
    bundle = bundle_of(settings, row)
    radii = bundle.fibres.radii
    drawn = ", ".join(f"{key} {getattr(bundle.settings, key):.4g}" for key in settings.ranges)
    note = (
        f"{len(radii)} axons of radius {radii.min():.3g} to {radii.max():.3g} um cover "
        f"{bundle.fibres.volume_fraction:.3g} of the cell before they are deformed; periods "
        + " x ".join(f"{period:.6g}" for period in bundle.periods)
        + f" um (x, y, z); its faces are no walls{'; drawn: ' * bool(drawn)}{drawn}"
    )
    return Filling(bundle.mesh(), bundle.names, (note,))


def _packed(inputs: Sequence[Path], options: MeshOptions) -> Filling:
    return pack(load_bundle(inputs[0]))


def common_kind(paths: Sequence[Path], options: MeshOptions) -> str:
    """The kind that decides how inputs are meshed; ConfigError for options that it cannot have."""
    kinds = {kind_of(path) for path in paths}
    if "labels" in kinds:
        if len(paths) > 1:
            raise ConfigError(
                f"{', '.join(map(str, paths))}: a label volume is meshed alone, for its membranes "
                "follow voxels, which no other surface meets. Write the others into its voxels, as "
                "labels of their own, or give all as surfaces."
            )
        others = options.margin_um, options.compartments, options.cut_um
        if any(value is not None for value in others):
            raise ConfigError(
                f"{paths[0]}: a label volume has its own labels, and its own box, in which voxels "
                "of label 0 are the water. Leave --margin, --compartments and --cut away; crop or "
                "relabel it."
            )
        return "labels"
    if "bundle" in kinds:
        if len(paths) > 1 or options.model_dump(include=OPTIONS, exclude_defaults=True):
            raise ConfigError(
                f"{paths[0]}: a bundle is meshed alone, by its keys; no other options."
            )
        return "bundle"
    if kinds != {"tetrahedra"}:
        return "surface"
    meant = options.compartments, options.size_um, options.cut_um
    if options.water or any(value is not None for value in meant):
        raise ConfigError(f"{paths[0]}: tetrahedra stay as they are; leave options away.")
    if len(paths) > 1:
        raise ConfigError(
            f"{len(paths)} inputs of tetrahedra: give one, or closed surfaces to be filled."
        )
    return "tetrahedra"


def _labelled(inputs: Sequence[Path], options: MeshOptions) -> Filling:
    labels, affine = labelled_voxels(inputs[0], options.scale_to_um)
    water = options.box, options.tight_um
    return mesh_labels(labels, affine, str(inputs[0]), *water, options.size_um, Limits.of(options))


def labelled_voxels(path: Path, scale_to_um: float | None) -> tuple[ndarray, ndarray]:
    """Labels, and the affine to um; a size that no cell has in um is refused."""
    factor_of(path, scale_to_um)
    labels, affine = read_labels(path, scale_to_um)
    if scale_to_um is None:
        question_unit(path, float((np.linalg.norm(affine[:3, :3], axis=0) * labels.shape).max()))
    return labels, affine


def _tetrahedra(inputs: Sequence[Path], options: MeshOptions) -> Filling:
    shape = read_mesh(inputs[0], options.scale_to_um, None, options.label_key)
    return Filling(shape, {label: str(inputs[0]) for label in shape.labels}, ())


def _filled(inputs: Sequence[Path], options: MeshOptions) -> Filling:
    solids = [solids_of(path, options) for path in inputs]
    cell = cell_of(inputs, solids, options)
    surfaces, fillings, notes = list[Surface](), list[Filling](), list[str]()
    for solid, more in (each for some in solids for each in some):
        notes += more
        if isinstance(solid, Skeleton):
            there = solid if cell is None else solid.through(cell)
            surface, filling = grown(there, options.size_um, Limits.of(options))
            fillings.append(filling)
            notes += filling.notes[:-1]
        surfaces.append(surface if isinstance(solid, Skeleton) else solid)
    alone = len(surfaces) == len(fillings) == 1
    if alone and not options.water and options.compartments is None:
        filling = fillings[0]
    else:
        surface = _with_water(united(surfaces), options, cell)
        labels = _labels(surface, options.compartments)
        filling = fill(surface, labels, options.size_um, Limits.of(options))
    if cell is not None:
        filling = cut_to_cell(filling, cell, Limits.of(options))
    every_solid = tuple(solid for each in fillings for solid in each.solids)
    return replace(filling, notes=(*notes, *filling.notes), solids=every_solid)


def solids_of(path: Path, options: MeshOptions) -> list[tuple[Skeleton | Surface, Sequence[str]]]:
    """What a file holds, each with what was mended."""
    kind = kind_of(path)
    if kind == "surface":
        surface, faults = read_surface(path, options.scale_to_um)
        return [(surface, [f"{path}: {fault}" for fault in faults])]
    if kind == "substrate":
        return read_substrate(path, options.scale_to_um)
    return [(skeleton, ()) for skeleton in read_skeletons(path, options.scale_to_um)]


def cell_of(
    inputs: Sequence[Path],
    solids: Sequence[Sequence[tuple[Skeleton | Surface, Sequence[str]]]],
    options: MeshOptions,
) -> Float[ndarray, "2 3"] | None:
    """The cell to be cut to; ConfigError where no file names one, or all lies outside of it."""
    if options.cut_um is None:
        return None
    every = [solid for some in solids for solid, _ in some]
    named = [solid.cell for solid in every if isinstance(solid, Skeleton)]
    cells = [cell for cell in named if cell is not None]
    if options.cut_um != "cell":
        cells = [np.array(options.cut_um).reshape(2, 3)]
    if not cells or any((cell != cells[0]).any() for cell in cells):
        raise ConfigError(
            f"{', '.join(map(str, inputs))}: cut to the cell of the file, but "
            f"{'they differ' if cells else 'no file names one'}. Give its corners in um, as "
            "--cut X,Y,Z,X,Y,Z."
        )
    cell = cells[0]
    boxes = [
        each.through(cell).cones.box if isinstance(each, Skeleton) else each.box for each in every
    ]
    if all(((box[1] <= cell[0]) | (box[0] >= cell[1])).any() for box in boxes):
        raise ConfigError(
            f"{', '.join(map(str, inputs))}: nothing lies in the cell from {cell[0]} to {cell[1]} "
            f"um; the first is from {boxes[0][0]} to {boxes[0][1]} um. Give a cell within it."
        )
    return cell


def _with_water(surface: Surface, options: MeshOptions, cell: ndarray | None) -> Surface:
    if options.box:
        return in_box(surface, options.margin_um, options.size_um, Limits.of(options), cell)
    if options.tight_um is not None:
        return in_wrap(surface, options.tight_um, Limits.of(options))
    return surface


def _labels(surface: Surface, compartments: Sequence[int] | None) -> list[int]:
    """The compartment of each part of a surface."""
    usual = labels_of(surface)
    if compartments is None:
        return usual
    question_count(compartments, max(usual))
    return [compartments[number - 1] for number in usual]


def question_count(compartments: Sequence[int], count: int) -> None:
    if len(compartments) != count:
        raise ConfigError(
            f"compartments has {len(compartments)} numbers for {count} compartments. Give one "
            "for each, in the order in which they are printed without it."
        )

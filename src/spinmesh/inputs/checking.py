"""What can be said of inputs before anything is computed: reports, refusals, compartments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from spinmesh.errors import ConfigError, StoreError
from spinmesh.files.places import place
from spinmesh.files.reading import reading
from spinmesh.inputs.building import (
    cell_of,
    common_kind,
    kind_of,
    labelled_voxels,
    pack,
    question_count,
    solids_of,
)
from spinmesh.io.meshes import read_mesh
from spinmesh.machine import check_gpus, check_partitions, check_writable
from spinmesh.meshing.check import Report, check_surface, check_tets
from spinmesh.meshing.faults import faults_of
from spinmesh.meshing.files import read_surface, unit_of
from spinmesh.meshing.fill import labels_of
from spinmesh.meshing.surface import Surface, united
from spinmesh.settings import Config, MeshInput, MeshOptions, load_bundle
from spinmesh.skeletons.files import Skeleton, described
from spinmesh.tissue import Tissue

# Keys of a partition that is another cluster's.
ELSEWHERE = {"slurm_cluster", "cluster", "clusters"}


def check_inputs(config: Config) -> None:
    """Read every input file of a run, build its tissues, and let their errors out."""
    from spinmesh.io.acquisitions import read_acquisition
    from spinmesh.io.targets import read_target, read_voxels

    acquisition = read_acquisition(**config.acquisition.model_dump())
    tissue = Tissue.from_settings(config.tissue)
    for entry in config.mesh.inputs:
        filling = tissue if entry.tissue is None else Tissue.from_settings(entry.tissue)
        filling.filling(labels_before(entry))
    if config.phantom.acquisition is not None:
        read_acquisition(**config.phantom.acquisition.model_dump())
    signal = config.reconstruct.signal
    if signal is not None:
        if signal.acquisition is not None:
            acquisition = read_acquisition(**signal.acquisition.model_dump())
        read_target(acquisition, **signal.single())
        scattered = signal.scattered()
        if scattered is not None:
            read_voxels(acquisition, **scattered)


def check_stores(digests: Mapping[str, str]) -> None:
    """StoreError if a store that is to be read as it is was made with another configuration.

    `digests` are what the configuration gives, by the place of the store. Such a store has been
    copied here: of those it has made itself the workflow knows how.
    """
    from spinmesh.io.store import attributes_of

    for path, digest in digests.items():
        if not path.endswith(".zarr") or not place(path).exists():
            continue
        if (stored := attributes_of(path)["config_digest"]) != digest:
            raise StoreError(
                f"{path}: was made with another configuration (digest {stored}, now {digest}). "
                "Delete it, and it is made again; or give this run a name of its own (`run`)."
            )


def check_places(
    results: str | Path, gpus: Mapping[str, int], here: bool, partitions: Path | None
) -> None:
    """Where a run writes, and where it computes: on this machine or on partitions of Slurm.

    `gpus` is how many each rule asks for; `partitions` is the profile's file of them. Raises
    MachineError if nothing can be written, ConfigError if there are too few GPUs or a partition is
    unknown.
    """
    where = place(results)
    for folder in (where, *(path for path in where.glob("*") if path.is_dir())):
        check_writable(folder)
    asking, most = ", ".join(sorted(gpus)), max(gpus.values(), default=0)
    if here and asking:
        check_gpus(most, f"`device` of the stage ({asking})")
    if not here and partitions is not None:
        with reading(partitions, "table of partitions", "Correct it."):
            table = yaml.safe_load(partitions.read_text())["partitions"]
            limits = {name: limit or {} for name, limit in table.items()}
        if most > max((limit.get("max_gpu", 0) for limit in limits.values()), default=0):
            raise ConfigError(
                f"{partitions}: no partition has {most} GPUs (`max_gpu`), which {asking} asks for. "
                "Add one, or give `device: cpu` or fewer `gpus` to the stage."
            )
        check_partitions(
            [name for name in limits if not ELSEWHERE & limits[name].keys()], partitions
        )


def check(inputs: Sequence[Path], scale_to_um: float | None = None) -> Iterator[tuple[str, Report]]:
    """A report on each input by its name, and one on all surfaces together if they are faulty."""
    usable, surfaces = True, []
    for path in inputs:
        kind = kind_of(path)
        if kind == "surface":
            surface, report = _checked_surface(path, scale_to_um)
            surfaces.append(surface)
        elif kind == "labels":
            report = _checked_labels(path, scale_to_um)
        elif kind in ("skeleton", "substrate"):
            options = MeshOptions(scale_to_um=scale_to_um)
            solids = [solid for solid, _ in solids_of(path, options)]
            reports = [
                Report(tuple(described(each)), True)
                if isinstance(each, Skeleton)
                else check_surface(each)
                for each in solids
            ]
            lines = tuple(line for each in reports for line in each.lines)
            report = Report(lines, all(each.usable for each in reports))
        elif kind == "bundle":
            report = check_tets(pack(load_bundle(path)).mesh)
        else:
            report = check_tets(read_mesh(path, scale_to_um))
        usable = usable and report.usable
        yield str(path), report
    if usable and len(surfaces) > 1 and (faults := faults_of(united(surfaces))):
        yield "together", Report(tuple(f"FAULT: {fault}" for fault in faults), False)


def _checked_surface(path: Path, scale_to_um: float | None) -> tuple[Surface, Report]:
    surface, mended = read_surface(path, scale_to_um or 1.0)
    report = check_surface(surface, mended)
    if scale_to_um is None and unit_of(surface.length) != "um":
        fault = "FAULT: of no cell's size in um; give --scale-to-um"
        report = Report((*report.lines, fault), False)
    return surface, report


def _checked_labels(path: Path, scale_to_um: float | None) -> Report:
    """Voxels and volume of each label of a label volume, and the size of its voxels."""
    labels, affine = labelled_voxels(path, scale_to_um)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    size = " x ".join(f"{side:.4g}" for side in sides)
    counts = zip(*np.unique(labels, return_counts=True), strict=True)
    lines = (
        f"  label {label}: {count:,} voxels, {count * sides.prod():.5g} um^3"
        for label, count in counts
    )
    return Report((f"{' x '.join(map(str, labels.shape))} voxels of {size} um", *lines), True)


def labels_before(entry: MeshInput) -> tuple[int, ...]:
    """Read the files of an entry, which questions their unit; the labels of the mesh to come."""
    if entry.bundle is not None:
        return entry.bundle.labels
    paths = [Path(path) for path in entry.path]
    kind = common_kind(paths, entry)
    if kind == "tetrahedra":
        return read_mesh(paths[0], entry.scale_to_um, None, entry.label_key).labels
    if kind == "bundle":
        return load_bundle(paths[0]).labels
    if kind == "labels":
        labels, _ = labelled_voxels(paths[0], entry.scale_to_um)
        inside = np.unique(labels[labels > 0]).tolist()
        return (*inside, *([inside[-1] + 1] if entry.water and inside else ()))
    solids = [solids_of(path, entry) for path in paths]
    cell_of(paths, solids, entry)
    return _labels_to_come([solid for some in solids for solid, _ in some], entry)


def _labels_to_come(solids: Sequence[Skeleton | Surface], options: MeshOptions) -> tuple[int, ...]:
    """The labels that solids and water will have; a skeleton is one compartment."""
    surfaces = [solid for solid in solids if isinstance(solid, Surface)]
    count = len({solid.name for solid in solids if isinstance(solid, Skeleton)}) + options.water
    if surfaces:
        count += max(labels_of(united(surfaces)))
    if options.compartments is None:
        return tuple(range(1, count + 1))
    question_count(options.compartments, count)
    return tuple(sorted(set(options.compartments) - {0}))

"""Zarr v3 stores: one per stage output, complete or absent, self-describing, checked on read."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from spinmesh.errors import StoreError
from spinmesh.io import codec
from spinmesh.machine import available_memory
from spinmesh.provenance import Provenance, package_version
from spinmesh.reading import reading
from spinmesh.stored import schema_of
from spinmesh.writing import complete_or_absent

Noun = TypeVar("Noun")
# The group's own file, which names all others.
GROUP = "zarr.json"


def save(value: Any, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write `value` as a Zarr v3 store at `path`, complete or not at all.

    The store is written beside `path` and renamed at the end. Group attributes: schema,
    schema_version, seed, package_version, config_digest, notes and cost if there are any, manifest
    (SHA-256 of every file), digest (of all these).

    Raises StoreError if something else than a spinmesh store is there.
    """
    schema = schema_of(type(value))
    refuse_foreign(path)
    provenance = provenance or Provenance()
    attributes = {
        "schema": schema.name,
        "schema_version": schema.version,
        "seed": provenance.seed,
        "package_version": package_version(),
        "config_digest": provenance.config_digest,
        **provenance.cost,
    }
    if provenance.notes:
        attributes["notes"] = list(provenance.notes)
    dataset = codec.encode(value)
    for name in dataset.attrs.keys() & {*attributes, "manifest", "digest"}:
        raise StoreError(f"{type(value).__name__}: the field name {name} is the store's own.")
    dataset = dataset.assign_attrs(attributes)
    with complete_or_absent(Path(path)) as partial:
        with warnings.catch_warnings():
            # Consolidated metadata keeps readers from listing the folder, where Snakemake leaves
            # its timestamp file; zarr-python warns that v3 has not standardised it yet.
            warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
            dataset.to_zarr(partial, mode="w", zarr_format=3, consolidated=True)
        group = _group(partial)
        group["attributes"]["manifest"] = _digests(partial)
        group["attributes"]["digest"] = _digest(group)
        (partial / GROUP).write_text(json.dumps(group, indent=1))


def load(noun: type[Noun], path: str | Path) -> Noun:
    """Read a `noun` from the store at `path`.

    Raises StoreError if the store is missing, damaged, or of another schema or version; the
    message names the stage to rerun.
    """
    schema = schema_of(noun)
    path = Path(path)
    if not (path / GROUP).is_file():
        raise StoreError(f"{path}: no Zarr store here. First run {schema.maker}.")
    remedy = f"Delete the store and rerun {schema.maker}."
    with reading(path / GROUP, "Zarr store", remedy):
        group = _group(path)
        attributes = dict(group["attributes"])
    stored = (attributes.get("schema"), attributes.get("schema_version"))
    if stored != (schema.name, schema.version):
        raise StoreError(
            f"{path}: holds {stored[0]} version {stored[1]}, but {schema.name} version "
            f"{schema.version} is needed. Rerun {schema.maker}."
        )
    if "manifest" not in attributes or attributes.get("digest") != _digest(group):
        raise StoreError(f"{path}: {GROUP} has changed since the store was written. {remedy}")
    present = _digests(path)
    for name, digest in attributes["manifest"].items():
        if present.get(name) != digest:
            what = "has changed" if name in present else "is missing"
            raise StoreError(f"{path}: {name} {what} since the store was written. {remedy}")
    with reading(path, "Zarr store", remedy), xr.open_zarr(path, chunks=None) as dataset:
        if dataset.nbytes > (free := available_memory()):
            raise StoreError(
                f"{path}: takes {dataset.nbytes / 1e9:.2g} GB of memory; {free / 1e9:.2g} GB are "
                "free. Go to a larger machine, or divide the store's substrates into more shards."
            )
        value: Noun = codec.decode(noun, dataset.load())
    return value


def attributes_of(path: str | Path) -> dict[str, Any]:
    """What a store says of itself: schema, seed, notes, cost, ..."""
    with reading(Path(path) / GROUP, "Zarr store"):
        return dict(_group(Path(path))["attributes"])


def load_all(noun: type[Noun], paths: Sequence[str | Path]) -> list[Noun]:
    """`load` for each path."""
    return [load(noun, path) for path in paths]


def load_optional(noun: type[Noun], path: str | Path | list[str]) -> Noun | None:
    """`load`, or None where a rule has no such input (an empty list)."""
    return load(noun, path) if isinstance(path, str | Path) else None


def load_shards(noun: type[Noun], paths: Sequence[str | Path], axis: str) -> Noun:
    """Read all shards of a noun and put their members in order along an axis."""
    return codec.gather(load_all(noun, paths), axis)


def is_foreign_zarr(path: str | Path) -> bool:
    """Whether a Zarr array or group is there that spinmesh has not written."""
    path = Path(path)
    if (path / GROUP).is_file():
        with reading(path / GROUP, "Zarr store", "Give another one."):
            return not str(_group(path).get("attributes", {}).get("schema")).startswith("spinmesh/")
    return any((path / name).is_file() for name in (".zarray", ".zgroup"))


def refuse_foreign(path: str | Path) -> None:
    """StoreError if writing a store would remove something else: a link, a file, a folder."""
    path = Path(path)
    ours = (path / GROUP).is_file() and not is_foreign_zarr(path)
    empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not ours and not empty):
        raise StoreError(
            f"{path}: is a link, or holds something else than a spinmesh store, which would be "
            "lost. Give another name, or move it away."
        )


def _group(path: Path) -> Any:
    return json.loads((path / GROUP).read_text())


def _digests(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a store but the group's own and hidden ones, by name."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file != path / GROUP and not file.name.startswith(".")
    }


def _digest(group: dict[str, Any]) -> str:
    """Of the group's own file, all but the digest itself."""
    attributes = {key: v for key, v in group["attributes"].items() if key != "digest"}
    text = json.dumps(group | {"attributes": attributes}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

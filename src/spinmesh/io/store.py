"""Zarr v3 stores: one per stage output, complete or absent, self-describing, checked on read."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from spinmesh.errors import StoreError
from spinmesh.io import codec
from spinmesh.provenance import Provenance, package_version
from spinmesh.reading import reading
from spinmesh.stored import Schema, schema_of
from spinmesh.writing import complete_or_absent

Noun = TypeVar("Noun")


# The group's own file, which names all others.
GROUP = "zarr.json"


def save(value: Any, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write `value` as a Zarr v3 store at `path`, complete or not at all.

    The store is written beside `path` and renamed at the end. Group attributes: schema,
    schema_version, seed, package_version, config_digest, manifest (SHA-256 of every file), digest
    (of all these). Raises StoreError if something else than a spinmesh store is there.
    """
    schema = schema_of(type(value))
    refuse_foreign(path)
    dataset = codec.encode(value)
    provenance = provenance or Provenance()
    attributes = {
        "schema": schema.name,
        "schema_version": schema.version,
        "seed": provenance.seed,
        "package_version": package_version(),
        "config_digest": provenance.config_digest,
    }
    with complete_or_absent(Path(path)) as partial:
        with warnings.catch_warnings():
            # Consolidated metadata keeps readers from listing the folder, where Snakemake leaves
            # its timestamp file; zarr-python warns that v3 has not standardised it yet.
            warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
            dataset.assign_attrs(attributes).to_zarr(
                partial, mode="w", zarr_format=3, consolidated=True
            )
        _write_manifest(partial)


def load(noun: type[Noun], path: str | Path) -> Noun:
    """Read a `noun` from the store at `path`.

    Raises StoreError if the store is missing, damaged, or of another schema or version; the
    message names the stage to rerun.
    """
    schema = schema_of(noun)
    path = Path(path)
    if not (path / GROUP).is_file():
        raise StoreError(
            f"{path}: no Zarr store here. Run stage `{schema.stage}` first{schema.stage}."
        )
    with reading(path / GROUP, "Zarr store", f"Delete the store and rerun stage `{schema.stage}`."):
        metadata = json.loads((path / GROUP).read_text())
        attributes = dict(metadata["attributes"])
    found = (attributes.get("schema"), attributes.get("schema_version"))
    if found != (schema.name, schema.version):
        raise StoreError(
            f"{path}: holds {found[0]} version {found[1]}, but {schema.name} version "
            f"{schema.version} is needed. Rerun stage `{schema.stage}`{schema.stage}."
        )
    _check_manifest(path, metadata, schema)
    remedy = f"Delete it and rerun stage `{schema.stage}`{schema.stage}."
    with reading(path, "Zarr store", remedy), xr.open_zarr(path, chunks=None) as dataset:
        value: Noun = codec.decode(noun, dataset.load())
    return value


def load_shards(noun: type[Noun], paths: Sequence[str | Path], axis: str) -> Noun:
    """Read all shards of a noun and put their members in order along an axis."""
    return codec.gather([load(noun, path) for path in paths], axis)


def provenance_of(path: str | Path) -> Provenance:
    """Seed and config digest of a store."""
    with reading(Path(path) / GROUP, "Zarr store", "Delete the store and rerun its stage."):
        attributes = json.loads((Path(path) / GROUP).read_text())["attributes"]
        return Provenance(attributes["seed"], attributes["config_digest"])


def refuse_foreign(path: str | Path) -> None:
    """StoreError if writing a store would remove something else: a link, a file, a folder."""
    path = Path(path)
    ours = False
    if (path / GROUP).is_file():
        with reading(path / GROUP, "Zarr store", "Give another name."):
            attributes = json.loads((path / GROUP).read_text())["attributes"]
            ours = str(attributes.get("schema")).startswith("spinmesh/")
    empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not ours and not empty):
        raise StoreError(
            f"{path}: is a link, or holds something else than a spinmesh store, which would be "
            "lost. Give another name, or move it away."
        )


def _data_files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")):
        if file.is_file() and file != path / GROUP and not file.name.startswith("."):
            yield file


def _write_manifest(path: Path) -> None:
    manifest = {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in _data_files(path)
    }
    group = path / GROUP
    metadata = json.loads(group.read_text())
    metadata["attributes"]["manifest"] = manifest
    metadata["attributes"]["digest"] = _digest(metadata)
    group.write_text(json.dumps(metadata, indent=1))


def _digest(metadata: dict[str, Any]) -> str:
    """Of the group's own file, all but the digest itself."""
    attributes = {key: v for key, v in metadata["attributes"].items() if key != "digest"}
    text = json.dumps(metadata | {"attributes": attributes}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_manifest(path: Path, metadata: dict[str, Any], schema: Schema) -> None:
    attributes = metadata["attributes"]
    if "manifest" not in attributes or attributes.get("digest") != _digest(metadata):
        raise StoreError(
            f"{path}: {GROUP} has changed since the store was written. Delete the store and rerun "
            f"stage `{schema.stage}`{schema.stage}."
        )
    for name, digest in attributes["manifest"].items():
        file = path / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            what = "is missing" if not file.is_file() else "has changed"
            raise StoreError(
                f"{path}: {name} {what} since the store was written. Delete the store and rerun "
                f"stage `{schema.stage}`{schema.stage}."
            )


def load_optional(noun: type[Noun], path: str | Path | list[str]) -> Noun | None:
    """`load`, or None where a rule has no such input (an empty list)."""
    return load(noun, path) if isinstance(path, str | Path) else None


def write_text(text: str, path: str | Path) -> None:
    """Write a text file, complete or not at all."""
    with complete_or_absent(Path(path)) as partial:
        partial.write_text(text)

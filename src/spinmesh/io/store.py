"""Zarr v3 stores: one per stage output, complete or absent, self-describing, checked on read."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from spinmesh.errors import MachineError, StoreError
from spinmesh.files.places import AT_ONCE, GROUP, UNFINISHED, ObjectPath, place
from spinmesh.files.reading import reading
from spinmesh.files.writing import complete_or_absent
from spinmesh.io import codec
from spinmesh.machine import available_memory
from spinmesh.progress import progress
from spinmesh.provenance import Provenance, origin, package_version
from spinmesh.stored import schema_of

if TYPE_CHECKING:
    import xarray as xr

Noun = TypeVar("Noun")
# Bytes of one chunk of an array, and of what a gather holds of its shards.
CHUNK = 2**22
GATHERED = 2**27


def save(value: Any, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write `value` as a Zarr v3 store at `path`, complete or not at all.

    The store is written beside `path` and renamed at the end. Group attributes: schema,
    schema_version, seed, package_version, config_digest, what made it (`provenance.origin`), notes
    and cost if there are any, manifest (SHA-256 of every file), digest (of all these). Arrays lie
    in chunks of some rows, so that a few can be read alone.

    Raises StoreError if something else than a spinmesh store is there.
    """
    _save_parts([value], path, provenance or Provenance())


def _save_parts(
    parts: Iterable[Any],
    path: str | Path,
    provenance: Provenance,
    axis: str = "",
    words: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """As `save`, of a value that comes in parts along an axis; `words` are all that may come."""
    refuse_foreign(path)
    with complete_or_absent(place(path)) as partial, warnings.catch_warnings():
        # Consolidated metadata keeps readers from listing the folder, where Snakemake leaves
        # its timestamp file; zarr-python warns that v3 has not standardised it yet.
        warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
        for number, part in enumerate(parts):
            dataset = codec.with_words(codec.encode(part), words or {})
            dataset = dataset.assign_attrs(_attributes(part, dataset, provenance))
            if number == 0:
                chunks = {str(name): _chunks(array) for name, array in dataset.variables.items()}
                dataset.to_zarr(
                    partial, mode="w", encoding=chunks, zarr_format=3, consolidated=True
                )
            else:
                still = [
                    name for name, array in dataset.variables.items() if axis not in array.dims
                ]
                rows = dataset.drop_vars(still)
                rows.to_zarr(partial, append_dim=axis, zarr_format=3, consolidated=True)
        group = _group(partial)
        files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
        names = [file.relative_to(partial).as_posix() for file in files if file != partial / GROUP]
        group["attributes"]["manifest"] = {
            name: hashlib.sha256((partial / name).read_bytes()).hexdigest() for name in names
        }
        group["attributes"]["digest"] = _digest(group)
        (partial / GROUP).write_text(json.dumps(group, indent=1))


def _attributes(value: Any, dataset: xr.Dataset, provenance: Provenance) -> dict[str, Any]:
    """Of the group: what the store is and where it comes from."""
    schema = schema_of(type(value))
    attributes = {
        "schema": schema.name,
        "schema_version": schema.version,
        "seed": provenance.seed,
        "package_version": package_version(),
        "config_digest": provenance.config_digest,
        **origin(),
        **provenance.cost,
    }
    if provenance.notes:
        attributes["notes"] = list(provenance.notes)
    for name in dataset.attrs.keys() & {*attributes, "manifest", "digest"}:
        raise StoreError(f"{type(value).__name__}: the field name {name} is the store's own.")
    return attributes


def _chunks(array: xr.Variable) -> dict[str, tuple[int, ...]]:
    """Encoding of an array: as many rows a chunk as CHUNK holds; no chunk of one that is empty."""
    if array.size == 0 or array.ndim == 0:
        return {}
    row = array.nbytes // len(array)
    return {"chunks": (min(len(array), max(1, CHUNK // row)), *array.shape[1:])}


def load(noun: type[Noun], path: str | Path, **rows: slice | Sequence[int]) -> Noun:
    """Read a `noun` from the store at `path`, or some of its rows: `load(Signals, path,
    substrate=[3, 5])` reads and checks those chunks of the axis `substrate` that hold the two.

    Raises StoreError if the store is missing, damaged, or of another schema or version; the
    message names the stage to rerun. MachineError if the memory is too small.
    """
    import xarray as xr

    path, (group, remedy) = place(path), _group_of(noun, path)
    source = _checked(path, group, remedy, rows)
    with reading(path, "Zarr store", remedy), xr.open_zarr(source, chunks=None) as dataset:
        dataset = dataset.isel(rows)
        if dataset.nbytes > (free := available_memory()):
            raise MachineError(
                f"{path}: takes {dataset.nbytes / 1e9:.2g} GB of memory; {free / 1e9:.2g} GB are "
                "free. Go to a larger machine, or divide the store's substrates into more shards."
            )
        value: Noun = codec.decode(noun, dataset.load())
    return value


def _group_of(noun: type, path: str | Path) -> tuple[dict[str, Any], str]:
    """The group's own file of a noun's store, and the remedy if the store is damaged."""
    schema, path = schema_of(noun), place(path)
    if not (path / GROUP).is_file():
        if path.is_dir():
            raise StoreError(f"{path}: not complete, it has no {GROUP}. Rerun {schema.maker}.")
        raise StoreError(f"{path}: no Zarr store here. First run {schema.maker}.")
    remedy = f"Delete the store (`make repair` does it) and rerun {schema.maker}."
    with reading(path / GROUP, "Zarr store", remedy):
        group: dict[str, Any] = _group(path)
        attributes = dict(group["attributes"])
    _check_group(path, group, remedy)
    stored = (attributes.get("schema"), attributes.get("schema_version"))
    if stored != (schema.name, schema.version):
        raise StoreError(
            f"{path}: holds {stored[0]} version {stored[1]}, but {schema.name} version "
            f"{schema.version} is needed. Rerun {schema.maker}."
        )
    return group, remedy


def check_store(path: str | Path, remedy: str = "Delete the store and rerun its stage.") -> None:
    """StoreError that names the file if one of a store's files is not as it was written."""
    path = place(path)
    with reading(path / GROUP, "Zarr store", remedy):
        group = _group(path)
        _check_group(path, group, remedy)
    for name, digest in group["attributes"]["manifest"].items():
        _check_file(path, name, digest, _bytes(path / name), remedy)


def _check_group(path: Path, group: dict[str, Any], remedy: str) -> None:
    attributes = group["attributes"]
    if attributes.get("schema") == UNFINISHED:
        raise StoreError(f"{path}: not complete: its writer was killed, or is at work. {remedy}")
    if "manifest" not in attributes or attributes.get("digest") != _digest(group):
        raise StoreError(f"{path}: {GROUP} has changed since the store was written. {remedy}")


def _checked(path: Path, group: dict[str, Any], remedy: str, rows: Mapping[str, Any]) -> Any:
    """What xarray opens to read some rows, their files checked: the folder, or of an object store
    copies of these objects in memory, each asked for once."""
    files = {
        n: d for n, d in group["attributes"]["manifest"].items() if _is_touched(n, group, rows)
    }
    if not isinstance(path, ObjectPath):
        for name, digest in files.items():
            _check_file(path, name, digest, _bytes(path / name), remedy)
        return path
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    copies: dict[str, Any] = {GROUP: Buffer.from_bytes(json.dumps(group).encode())}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        contents = pool.map(_bytes, [path / name for name in files])
        for (name, digest), data in zip(files.items(), contents, strict=True):
            copies[name] = Buffer.from_bytes(_check_file(path, name, digest, data, remedy))
    return MemoryStore(copies)


def _check_file(path: Path, name: str, digest: str, data: bytes | None, remedy: str) -> bytes:
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        what = "is missing" if data is None else "has changed"
        raise StoreError(f"{path}: {name} {what} since the store was written. {remedy}")
    return data


def _arrays(group: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Shape, axes and chunks of every array, by name."""
    arrays: dict[str, dict[str, Any]] = group["consolidated_metadata"]["metadata"]
    return arrays


def _is_touched(name: str, group: dict[str, Any], rows: Mapping[str, Any]) -> bool:
    """Whether a file holds one of the rows, or no rows of their axis at all."""
    array, chunk, numbers = name.partition("/c/")
    if not chunk:
        return True
    stored = _arrays(group)[array]
    sizes, axes = stored["chunk_grid"]["configuration"]["chunk_shape"], stored["dimension_names"]
    for number, size, length, axis in zip(
        numbers.split("/"), sizes, stored["shape"], axes, strict=True
    ):
        if axis in rows and int(number) not in np.arange(length)[rows[axis]] // size:
            return False
    return True


def attributes_of(path: str | Path) -> dict[str, Any]:
    """What a store says of itself: schema, seed, notes, cost, ..."""
    with reading(place(path) / GROUP, "Zarr store", "`make repair` removes what is damaged."):
        return dict(_group(place(path))["attributes"])


def load_all(noun: type[Noun], paths: Sequence[str | Path]) -> list[Noun]:
    """`load` for each path."""
    return [load(noun, path) for path in paths]


def load_optional(noun: type[Noun], path: str | Path | list[str]) -> Noun | None:
    """`load`, or None where a rule has no such input (an empty list)."""
    return load(noun, path) if isinstance(path, str | Path) else None


def load_shards(noun: type[Noun], paths: Sequence[str | Path], axis: str) -> Noun:
    """Read all shards of a noun and put their members in order along an axis."""
    return codec.gather(load_all(noun, paths), axis)


def rows_of_shard(number: int | str, count: int) -> slice:
    """Rows of one of `count` shards: every `count`-th from `number` on, so that all cost alike."""
    return slice(int(number), None, count)


def gather_shards(
    noun: type,
    paths: Sequence[str | Path],
    axis: str,
    path: str | Path,
    provenance: Provenance | None = None,
) -> None:
    """Write the whole of which the stores at `paths` are the shards (`rows_of_shard`).

    At most about three times GATHERED bytes are in memory, however large the whole is.
    """
    groups = [_group_of(noun, shard)[0] for shard in paths]
    lengths, words, row = [], dict[str, set[str]](), 1
    for group in groups:
        along = {n: a for n, a in _arrays(group).items() if axis in a["dimension_names"]}
        lengths.append(max(array["shape"][0] for array in along.values()))
        row = max(row, sum(_row_bytes(array) for array in along.values()))
        for name, array in along.items():
            if "flag_meanings" in array["attributes"]:
                words.setdefault(name, set()).update(array["attributes"]["flag_meanings"])
    step = max(1, GATHERED // (row * len(paths)))

    def parts() -> Iterator[Any]:
        for start in progress(range(0, max(lengths), step), "gather"):
            rows = {axis: slice(start, start + step)}
            yield codec.gather(
                [load(noun, p, **rows) for p, n in zip(paths, lengths, strict=True) if start < n],
                axis,
            )

    _save_parts(parts(), path, provenance or Provenance(), axis, words)


def _row_bytes(array: dict[str, Any]) -> int:
    """Of an array's row in memory."""
    size = 16 if array["data_type"].startswith("complex") else 8
    return size * math.prod(array["shape"][1:])


def is_foreign_zarr(path: str | Path) -> bool:
    """Whether a Zarr array or group is there that spinmesh has not written."""
    path = place(path)
    if (path / GROUP).is_file():
        with reading(path / GROUP, "Zarr store", "Give another one."):
            return not str(_group(path).get("attributes", {}).get("schema")).startswith("spinmesh/")
    return any((path / name).is_file() for name in (".zarray", ".zgroup"))


def refuse_foreign(path: str | Path) -> None:
    """StoreError if writing a store would remove something else: a link, a file, a folder."""
    path = place(path)
    ours = (path / GROUP).is_file() and not is_foreign_zarr(path)
    empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not ours and not empty):
        raise StoreError(
            f"{path}: is a link, or holds something else than a spinmesh store, which would be "
            "lost. Give another name, or move it away."
        )


def _group(path: Path) -> Any:
    return json.loads((path / GROUP).read_bytes())


def _bytes(file: Path) -> bytes | None:
    """Of a file; None if it is not there."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _digest(group: dict[str, Any]) -> str:
    """Of the group's own file, all but the digest itself."""
    attributes = {key: v for key, v in group["attributes"].items() if key != "digest"}
    text = json.dumps(group | {"attributes": attributes}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

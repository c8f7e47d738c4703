"""Commands for stores: where one comes from, what is in it, and away with the damaged ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError, StoreError
from spinmesh.files.places import ObjectPath
from spinmesh.files.writing import leftovers, remove

RUN = "results/<run> of a workflow that is not at work."
STORE = "Of any stage or command: a folder that ends in .zarr, or s3://bucket/key.zarr."
STORES = "A run's folder (results/<run>), a folder of `spinmesh reconstruct`, or stores (.zarr)."
Page = Annotated[Path, typer.Option(help="FILE.html, for any browser; it needs no network.")]


def provenance(store: Annotated[Path, typer.Argument(help=STORE)]) -> None:
    """Print what made a store: seed, configuration, versions, and the command to make it again."""
    from spinmesh.io.store import attributes_of, is_foreign_zarr

    if is_foreign_zarr(store):
        raise StoreError(f"{store}: was not written by spinmesh, so nothing is known of it.")
    stored = attributes_of(store)
    command = stored.get("command") or "unknown: written by a program of your own"
    # The workflow's command makes any of its stores, by the name they have from the run's folder.
    remake = f"{command} {_target(store, command)}" if command.endswith(" --") else command
    rows = {
        "store": f"{stored['schema']}, version {stored['schema_version']}",
        "seed": stored["seed"],
        "configuration": f"digest {stored['config_digest']}",
        "spinmesh": f"{stored['package_version']}, git {stored.get('revision', 'unknown')}",
        "versions": ", ".join(f"{n} {v}" for n, v in stored.get("versions", {}).items()),
        "digest": stored["digest"],
        "made again by": remake,
    }
    rows |= {"note": "; ".join(stored["notes"])} if "notes" in stored else {}
    words = "\n".join(f"{name:<14} {value}" for name, value in rows.items())
    del stored["manifest"]
    measured.tell(words, file=str(store), **stored, made_again_by=remake)


def _target(store: Path, command: str) -> str:
    """A store's name from the folder of the run; in a bucket, what comes after the prefix."""
    if not isinstance(store, ObjectPath):
        return os.path.relpath(store)
    prefix = command.partition("--default-storage-prefix ")[2].split(" ")[0]
    return str(store).removeprefix(f"{prefix.rstrip('/')}/")


def view(
    stores: Annotated[list[Path], typer.Argument(help=STORES)],
    out: Page = Path("view.html"),
    force: measured.Replace = False,
) -> None:
    """Make one page: shapes to turn, posterior samples, signals, images, maps by the slice."""
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: give a name that ends in .html.")
    measured.refuse_existing(out, force)
    from spinmesh.view import write_page

    measured.tell(write_page(stores, out), file=str(out))


def repair(run: Annotated[Path, typer.Argument(help=RUN)]) -> None:
    """Remove what is damaged, or left by killed jobs, from a run; the next run makes it again."""
    if not (run / "logs").is_dir():
        raise StoreError(f"{run}: no results of a run. Give results/<run>.")
    removed = []
    for path, reason in _damaged(run):
        removed.append(f"removed, of stage `{path.relative_to(run).parts[0]}`: {reason}")
        remove(path)
    last = f"{run}: {len(removed)} removed." + (" Run again to make them." if removed else "")
    measured.tell("\n".join([*removed, last]), file=str(run), removed=removed)


def _damaged(run: Path) -> Iterator[tuple[Path, str]]:
    """What is to be removed from a run's folder, and why; stores of others stay."""
    from spinmesh.io.store import check_store, is_foreign_zarr
    from spinmesh.learning.checkpoint import checked_state

    for path in leftovers(run.rglob):
        if path.exists():  # or it went with another that it was in
            yield path, f"{path}: left by a writer that was killed"
    for pattern, check in (("*.zarr", check_store), ("*.checkpoint", checked_state)):
        for path in sorted(run.rglob(pattern)):
            try:
                check(path, remedy="")
            except StoreError as error:
                with suppress(StoreError):
                    if is_foreign_zarr(path):
                        continue
                yield path, str(error).rstrip()

"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from spinmesh.errors import MachineError
from spinmesh.files.places import ObjectPath, place

# Of a disk that is full or protected: the same may succeed later, or elsewhere.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
# In the folder of a writer until another one takes its place.
WRITER = "writer"


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Yield a fresh path of the same name in a folder beside `path`; on success it becomes `path`.

    For an object store it is a path on the disk, uploaded on success. What killed writers of `path`
    left behind is removed. Raises MachineError if the disk is full or protected, or if another
    program has begun to write `path` since.
    """
    if isinstance(path := place(path), ObjectPath):
        with _room(path), TemporaryDirectory() as here:
            yield Path(here) / path.name
            path.upload(Path(here) / path.name)
        return
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with _room(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for other in leftovers(path.parent.glob, escape(path.name)):
                _clear(other)
            folder.mkdir()
            (folder / WRITER).touch()
            try:
                yield folder / path.name
                _refuse_overtaken(folder, path)
                _replace(path, folder / path.name)
            except OSError:
                _refuse_overtaken(folder, path)
                raise
    finally:
        _clear(folder)


@contextmanager
def _room(path: Path) -> Iterator[None]:
    """MachineError if what is written here for `path` finds the disk full or protected."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}). Make room, or give a folder that can "
            "be written to, and run again."
        ) from error


def leftovers(glob: Callable[[str], Iterable[Path]], name: str = "*") -> list[Path]:
    """What writers have not finished, or not yet, where a folder's `glob` or `rglob` looks."""
    paths = [p for end in ("partial", "old") for p in glob(f".{name}.*.{end}")]
    return [path for path in paths if path.is_dir()]


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if isinstance(path, ObjectPath):
        path.remove()
    elif path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)


def write_text(text: str, path: str | Path) -> None:
    """Write a text file (UTF-8), complete or not at all."""
    with complete_or_absent(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")


def _replace(path: Path, new: Path) -> None:
    if not path.is_dir():
        os.replace(new, path)
        return
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old)


def _refuse_overtaken(folder: Path, path: Path) -> None:
    """A library would make its folder again and go on without the files that were removed."""
    if not (folder / WRITER).exists():
        raise MachineError(
            f"{path}: another program has begun to write it, and removed what this one had written."
            " Run one of them at a time."
        )


def _clear(folder: Path) -> None:
    """First the sign of its writer, who may be alive; it removes what this one cannot."""
    with suppress(OSError):
        (folder / WRITER).unlink()
    shutil.rmtree(folder, ignore_errors=True)

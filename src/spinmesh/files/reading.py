"""Files of other programs: whatever a library makes of them becomes one message of ours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from spinmesh.errors import MachineError, SpinmeshError, StoreError
from spinmesh.files.places import MOST_WORDS, ObjectPath, place

# What else is on an object store is not read from there.
STORE = "Zarr store"


@contextmanager
def reading(path: str | Path, what: str, remedy: str = "Export it again.") -> Iterator[None]:
    """StoreError with the file's name if it is absent, or if anything fails while it is read;
    MachineError if that is for lack of memory.

    What the bytes of a file can make a library raise cannot be listed, so this is the one place
    where every exception is caught. What the library prints or warns of is dropped.
    """
    path = place(path)
    if not path.exists():
        raise StoreError(f"{path}: no such {what}. Check the path (from the folder of the run).")
    if isinstance(path, ObjectPath) and what != STORE:
        raise StoreError(f"{path}: only stores (.zarr) are read there. Copy it to a disk first.")
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(printed), redirect_stderr(printed):
            warnings.simplefilter("ignore")
            yield
    except SpinmeshError:
        raise
    except MemoryError as error:
        raise MachineError(
            f"{path}: the memory is too small to read it. Go to a larger machine, or ask for more."
        ) from error
    except (Exception, SystemExit) as error:
        # A library that ends the program has printed why.
        said = printed.getvalue() if isinstance(error, SystemExit) else str(error)
        reason = f"{type(error).__name__}: {' '.join(said.split())}"[:MOST_WORDS]
        raise StoreError(f"{path}: cannot be read as {what} ({reason}). {remedy}") from error

"""The state of a long run on disk: complete or absent, and only for the run that wrote it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spinmesh.errors import StoreError
from spinmesh.files.reading import reading
from spinmesh.files.writing import complete_or_absent


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds the state of a run; `run` is a fingerprint of all that decides its result.

    Without a path nothing is ever written or read.
    """

    SAVE_EVERY: ClassVar[int] = 100
    """Iterations of a training from one state to the next."""

    path: Path | None
    run: str = ""

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the file; `content` holds tensors, numbers, texts, lists and dicts of them."""
        if self.path is not None:
            with complete_or_absent(self.path) as partial:
                state = {"run": self.run, "content": dict(content)}
                # In memory first: torch hides that the disk is full.
                buffer = io.BytesIO()
                torch.save(state | {"digest": fingerprint(state)}, buffer)
                partial.write_bytes(buffer.getbuffer())

    def read(self, device: str = "cpu") -> dict[str, Any] | None:
        """What was written, or None if nothing was.

        Raises StoreError if the file is damaged, or of another run.
        """
        if self.path is None or not self.path.exists():
            return None
        stored = checked_state(self.path, device)
        if stored["run"] != self.run:
            raise StoreError(
                f"{self.path}: a checkpoint of another run (other data, settings, seed or torch). "
                "Delete it or give another path."
            )
        return dict(stored["content"])

    def remove(self) -> None:
        """Delete the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def checked_state(
    path: Path, device: str = "cpu", remedy: str = "Delete it and rerun."
) -> dict[str, Any]:
    """`run` and `content` of a checkpoint, whatever run it is of; StoreError if it is damaged."""
    with reading(path, "checkpoint", remedy):
        stored: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        if stored.pop("digest") != fingerprint(stored):
            raise StoreError(f"{path}: a damaged checkpoint. {remedy}")
    return stored


def fingerprint(*values: Any) -> str:
    """Digest by content: tensors by their bytes, dataclasses by fields, networks by weights.

    Everything else goes by its repr.
    """
    digest = hashlib.sha256()
    for part in _parts(values):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterable[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        yield f"{array.dtype}{array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
    elif isinstance(value, nn.Module):
        yield from _parts(value.state_dict())
    elif is_dataclass(value):
        for field in fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()

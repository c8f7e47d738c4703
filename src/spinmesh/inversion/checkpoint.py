"""The state of a search on disk: complete or absent, and only for the search that wrote it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spinmesh.errors import StoreError
from spinmesh.writing import complete_or_absent


def fingerprint(*values: Any) -> str:
    """Digest of nouns by content: tensors by their bytes, dataclasses by their fields."""
    digest = hashlib.sha256()
    for part in _parts(values):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterable[bytes]:
    yield type(value).__name__.encode()
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(value.detach().numpy() if isinstance(value, Tensor) else value)
        yield f"{array.dtype}{array.shape}".encode()
        yield array.tobytes()
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


def write_checkpoint(path: Path, owner: str, content: Mapping[str, Any]) -> None:
    """Replace the checkpoint at `path`; `content` holds tensors, numbers and lists of them."""
    with complete_or_absent(path) as partial:
        torch.save({"owner": owner, "content": dict(content)}, partial)


def read_checkpoint(path: Path, owner: str) -> dict[str, Any] | None:
    """What was written at `path`, or None if nothing is there.

    Raises StoreError if it is damaged, or was written for another owner.
    """
    if not path.exists():
        return None
    try:
        stored = torch.load(path, weights_only=True)
        found, content = stored["owner"], dict(stored["content"])
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a checkpoint ({error}). Delete it and rerun.") from error
    if found != owner:
        raise StoreError(
            f"{path}: this checkpoint is of another target, shape model or configuration. Delete "
            "it, or give another path."
        )
    return content

"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.io.codec import gather
from spinmesh.io.store import (
    load,
    load_optional,
    load_shards,
    provenance_of,
    save,
    write_text,
)

__all__ = [
    "gather",
    "load",
    "load_optional",
    "load_shards",
    "provenance_of",
    "save",
    "write_text",
]

"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.io.store import (
    Codec,
    load,
    load_optional,
    provenance_of,
    save,
    write_text,
)

__all__ = [
    "Codec",
    "load",
    "load_optional",
    "provenance_of",
    "save",
    "write_text",
]

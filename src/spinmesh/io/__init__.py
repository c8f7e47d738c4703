"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.io.store import (
    Codec,
    complete_or_absent,
    load,
    load_optional,
    provenance_of,
    save,
    write_text,
)

__all__ = [
    "Codec",
    "complete_or_absent",
    "load",
    "load_optional",
    "provenance_of",
    "save",
    "write_text",
]

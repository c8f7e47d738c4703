"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.files.writing import write_text
from spinmesh.io.store import (
    gather_shards,
    load,
    load_all,
    load_optional,
    load_shards,
    rows_of_shard,
    save,
)

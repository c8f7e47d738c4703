"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.io.store import (
    gather_shards,
    load,
    load_all,
    load_optional,
    load_shards,
    rows_of_shard,
    save,
)
from spinmesh.writing import write_text

"""Everything that touches files: Zarr stores, meshes, acquisitions, measured signals."""

from spinmesh.io.store import load, load_all, load_optional, load_shards, save
from spinmesh.writing import write_text

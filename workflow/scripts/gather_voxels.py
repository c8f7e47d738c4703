from snakemake.iocontainers import Snakemake

from spinmesh.inversion import ShapeMaps
from spinmesh.io import load_shards, save
from spinmesh.io.bids import write_shape_maps
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
maps = load_shards(ShapeMaps, snakemake.input.shards, "voxel")
write_shape_maps(maps, snakemake.output.maps)
save(maps, snakemake.output.voxels, Provenance(**snakemake.params.provenance))

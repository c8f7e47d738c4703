from snakemake.iocontainers import Snakemake

from spinmesh.inversion import ShapeMaps, gather_voxels
from spinmesh.io import load, save
from spinmesh.io.maps import write_maps
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
maps = gather_voxels([load(ShapeMaps, shard) for shard in snakemake.input.shards])
write_maps(maps, snakemake.output.maps)
save(maps, snakemake.output.voxels, Provenance(**snakemake.params.provenance))

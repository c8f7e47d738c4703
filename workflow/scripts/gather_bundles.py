from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
images = ImageSet.interleaved([load(ImageSet, shard) for shard in snakemake.input.shards])
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))

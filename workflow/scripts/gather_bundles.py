from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.synthesis import ImageSet, joined_images

snakemake: Snakemake
log_to(snakemake.log[0])
images = joined_images([load(ImageSet, shard) for shard in snakemake.input.shards])
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))

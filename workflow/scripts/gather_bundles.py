from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import load_shards, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
images = load_shards(ImageSet, snakemake.input.shards, "image")
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import gather_shards
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
gather_shards(
    ImageSet,
    snakemake.input.shards,
    "image",
    snakemake.output.images,
    Provenance(**snakemake.params.provenance),
)

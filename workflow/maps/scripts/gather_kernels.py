from snakemake.iocontainers import Snakemake

from spinmesh.io import load_shards, save
from spinmesh.maps import Kernels
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
kernels = load_shards(Kernels, snakemake.input.shards, "body")
save(kernels, snakemake.output.kernels, Provenance(**snakemake.params.provenance))

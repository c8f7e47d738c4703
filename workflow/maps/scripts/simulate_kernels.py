from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.maps import simulate_kernels
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.maps import KernelNodes, TissueRanges

snakemake: Snakemake
log_to(snakemake.log[0])
nodes = KernelNodes(**snakemake.params.kernels)
kernels = simulate_kernels(
    read_acquisition(**snakemake.params.acquisition),
    TissueRanges(**snakemake.params.tissue),
    nodes,
    snakemake.params.seed,
    int(snakemake.wildcards.shard),
    nodes.shards,
)
save(kernels, snakemake.output.kernels, Provenance(**snakemake.params.provenance))

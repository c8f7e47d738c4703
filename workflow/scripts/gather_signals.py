from snakemake.iocontainers import Snakemake

from spinmesh.bloch_torrey import Signals
from spinmesh.io import gather_shards
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
gather_shards(
    Signals,
    snakemake.input.shards,
    "substrate",
    snakemake.output.signals,
    Provenance(**snakemake.params.provenance),
)

from snakemake.iocontainers import Snakemake

from spinmesh.io import load
from spinmesh.io.bids import write_bids
from spinmesh.phantom import Phantom
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
write_bids(load(Phantom, snakemake.input.phantom), snakemake.output.bids, snakemake.params.label)

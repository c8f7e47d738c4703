from snakemake.iocontainers import Snakemake

from experiments.peers.figures import plot_peers
from spinmesh.io.tables import read_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
plot_peers(read_rows(snakemake.input.table), snakemake.output.figure)

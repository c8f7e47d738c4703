from snakemake.iocontainers import Snakemake

from experiments.peers.comparison import compared
from experiments.peers.settings import Peers
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
write_rows(compared(Peers(**snakemake.params.settings)), snakemake.output.table)

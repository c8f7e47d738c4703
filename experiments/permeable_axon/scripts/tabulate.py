from itertools import chain

from snakemake.iocontainers import Snakemake

from spinmesh.io.tables import read_rows, write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
rows = chain.from_iterable(map(read_rows, snakemake.input.rows))
write_rows(list(rows), snakemake.output.table)

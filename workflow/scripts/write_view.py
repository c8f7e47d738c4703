from snakemake.iocontainers import Snakemake

from spinmesh.progress import log_to
from spinmesh.view import write_page

snakemake: Snakemake
log_to(snakemake.log[0])
write_page(snakemake.input, snakemake.output.page)

from snakemake.iocontainers import Snakemake

from spinmesh.io.tables import write_input_table
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
write_input_table(
    snakemake.input.meshes,
    snakemake.input.signals,
    snakemake.params.files,
    snakemake.output.table,
)

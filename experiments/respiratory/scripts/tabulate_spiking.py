from snakemake.iocontainers import Snakemake

from experiments.respiratory.ablation import Ablation, table
from experiments.respiratory.figures import plot_ablation
from spinmesh.io import load_all
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
rows = table(load_all(Ablation, snakemake.input.ablations))
write_rows(rows, snakemake.output.table)
plot_ablation(rows, snakemake.output.figure)

from snakemake.iocontainers import Snakemake

from experiments.respiratory.comparison import Comparison, per_class, summary
from spinmesh.io import load_all
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
comparisons = load_all(Comparison, snakemake.input.comparisons)
write_rows(summary(comparisons), snakemake.output.table)
write_rows(per_class(comparisons), snakemake.output.classes)

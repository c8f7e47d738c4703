from snakemake.iocontainers import Snakemake

from experiments.calibration.calibration import Calibration, joined
from experiments.calibration.figures import plot_calibration
from spinmesh.io import load
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
result = joined([load(Calibration, part) for part in snakemake.input.parts])
write_rows(result.rows(), snakemake.output.table)
write_rows(result.target_rows(), snakemake.output.ranks)
plot_calibration(result, snakemake.output.figure)

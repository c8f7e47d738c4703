from snakemake.iocontainers import Snakemake

from experiments.conditional.calibration import Calibration
from experiments.conditional.figures import plot_calibration
from spinmesh.io import load
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
plot_calibration(load(Calibration, snakemake.input.calibration), snakemake.output.figure)

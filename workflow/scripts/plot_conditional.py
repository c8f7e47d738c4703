from snakemake.iocontainers import Snakemake

from spinmesh.images import Calibration
from spinmesh.io import load
from spinmesh.progress import log_to
from spinmesh.report.conditional import plot_calibration

snakemake: Snakemake
log_to(snakemake.log[0])
plot_calibration(load(Calibration, snakemake.input.calibration), snakemake.output.figure)

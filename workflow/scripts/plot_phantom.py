from snakemake.iocontainers import Snakemake

from spinmesh.io import load
from spinmesh.phantom import Phantom
from spinmesh.progress import log_to
from spinmesh.report.volumes import plot_phantom

snakemake: Snakemake
log_to(snakemake.log[0])
plot_phantom(load(Phantom, snakemake.input.phantom), snakemake.output.figure)

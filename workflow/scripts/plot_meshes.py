from snakemake.iocontainers import Snakemake

from spinmesh.io import load
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.report.meshes import plot_meshes

snakemake: Snakemake
log_to(snakemake.log[0])
plot_meshes(
    load(Substrates, snakemake.input.substrates),
    load(Substrates, snakemake.input.target),
    snakemake.output.figure,
)

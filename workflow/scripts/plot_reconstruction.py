from snakemake.iocontainers import Snakemake

from spinmesh.inversion import Reconstruction
from spinmesh.io import load, load_optional
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.report.reconstruction import plot_reconstruction
from spinmesh.shapes import ShapeModel

snakemake: Snakemake
log_to(snakemake.log[0])
plot_reconstruction(
    load(Reconstruction, snakemake.input.reconstruction),
    snakemake.output.figure,
    load(ShapeModel, snakemake.input.model),
    load_optional(Substrates, snakemake.input.truth),
)

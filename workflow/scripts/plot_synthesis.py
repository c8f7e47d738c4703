from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.images import Synthesis
from spinmesh.io import load
from spinmesh.progress import log_to
from spinmesh.report.synthesis import plot_synthesis
from spinmesh.scores import ScoreModel

snakemake: Snakemake
log_to(snakemake.log[0])
plot_synthesis(
    load(ImageSet, snakemake.input.images),
    load(ScoreModel, snakemake.input.model),
    load(Synthesis, snakemake.input.synthesis),
    snakemake.output.figure,
)

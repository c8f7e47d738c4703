from snakemake.iocontainers import Snakemake

from spinmesh.io.scores import read_scores
from spinmesh.progress import log_to
from spinmesh.report import plot_ablations, plot_paper

snakemake: Snakemake
log_to(snakemake.log[0])
scores = read_scores(snakemake.input.scores)
plot_paper(scores, snakemake.output.figure)
plot_ablations(scores, snakemake.output.ablations)

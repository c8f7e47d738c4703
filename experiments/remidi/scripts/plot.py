from snakemake.iocontainers import Snakemake

from experiments.remidi.figures import plot_ablations, plot_paper
from experiments.remidi.tables import read_scores
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
scores = read_scores(snakemake.input.scores)
plot_paper(scores, snakemake.output.figure)
plot_ablations(scores, snakemake.output.ablations)

from snakemake.iocontainers import Snakemake

from experiments.respiratory.comparison import Comparison, pooled, summary
from experiments.respiratory.figures import plot_splits
from spinmesh.io import load_all
from spinmesh.io.sounds import read_folder
from spinmesh.progress import log_to
from spinmesh.report.estimators import plot_class_scores, plot_sounds

snakemake: Snakemake
log_to(snakemake.log[0])
comparisons = load_all(Comparison, snakemake.input.comparisons)
plot_sounds(
    read_folder(snakemake.input.folder, snakemake.params.diagnoses), snakemake.output.sounds
)
plot_class_scores(pooled(comparisons)["patient"].scores(), snakemake.output.scores)
plot_splits(summary(comparisons), snakemake.output.splits)

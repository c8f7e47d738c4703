from snakemake.iocontainers import Snakemake

from experiments.scores.figures import plot_gallery, plot_models, plot_points
from experiments.scores.models import Drawn
from experiments.scores.points import PointDraws
from spinmesh.bundles import ImageSet
from spinmesh.io import load
from spinmesh.io.tables import read_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
given, made = snakemake.input, snakemake.output
images, drawn = load(ImageSet, given.images), [load(Drawn, store) for store in given.drawn]
plot_models(read_rows(given.scores), images, drawn, made.models)
plot_gallery(images, drawn, made.gallery)
plot_points(
    read_rows(given.point_scores), [load(PointDraws, store) for store in given.points], made.points
)

from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import load
from spinmesh.io.drawn import load_all
from spinmesh.io.tables import read_rows
from spinmesh.progress import log_to
from spinmesh.report.scores import plot_gallery, plot_models, plot_points
from spinmesh.synthesis import Drawn, PointDraws

snakemake: Snakemake
log_to(snakemake.log[0])
given, made = snakemake.input, snakemake.output
images, drawn = load(ImageSet, given.images), load_all(Drawn, given.drawn)
plot_models(read_rows(given.scores), images, drawn, made.models)
plot_gallery(images, drawn, made.gallery)
plot_points(read_rows(given.point_scores), load_all(PointDraws, given.points), made.points)

from snakemake.iocontainers import Snakemake

from experiments.scores.models import Drawn, score_models, summarise_models
from experiments.scores.points import PointDraws, score_all_points, summarise_points
from spinmesh.bundles import ImageSet
from spinmesh.io import load
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to

snakemake: Snakemake
log_to(snakemake.log[0])
given, made = snakemake.input, snakemake.output
scores = score_models([load(Drawn, store) for store in given.drawn], load(ImageSet, given.images))
point_scores = score_all_points([load(PointDraws, store) for store in given.points])
write_rows(scores, made.scores)
write_rows(summarise_models(scores), made.table)
write_rows(point_scores, made.point_scores)
write_rows(summarise_points(point_scores), made.point_table)

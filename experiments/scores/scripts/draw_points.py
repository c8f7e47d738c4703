from snakemake.iocontainers import Snakemake

from experiments.scores.points import draw_points
from experiments.scores.settings import PointEvaluation
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
params = snakemake.params
points = draw_points(snakemake.wildcards.name, PointEvaluation(**params.plane), params.seed)
save(points, snakemake.output.points, Provenance(**params.provenance))

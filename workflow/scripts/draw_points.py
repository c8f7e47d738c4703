from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import PointEvaluation
from spinmesh.synthesis import draw_points

snakemake: Snakemake
log_to(snakemake.log[0])
asked = PointEvaluation(**snakemake.params.plane)
seeds = asked.seeds_from(snakemake.params.seed)
points = draw_points(snakemake.wildcards.name, asked.models, seeds, asked.spec())
save(points, snakemake.output.points, Provenance(**snakemake.params.provenance))

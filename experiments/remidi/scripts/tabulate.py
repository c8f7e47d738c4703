from snakemake.iocontainers import Snakemake

from experiments.remidi.estimates import Estimates, joined_scores, summarise_scores
from experiments.remidi.tables import write_scores
from spinmesh.io import load
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to
from spinmesh.shapes import ShapeModel

snakemake: Snakemake
log_to(snakemake.log[0])
stores = [*snakemake.input.estimates, *snakemake.input.ablations]
template = load(ShapeModel, snakemake.input.model).basis.template
scores = joined_scores((load(Estimates, store) for store in stores), template, snakemake.threads)
write_scores(scores, snakemake.output.scores)
write_rows(summarise_scores(scores), snakemake.output.table)

from snakemake.iocontainers import Snakemake

from experiments.scores.models import draw_model
from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.scores import ScoreModel
from spinmesh.settings.synthesise import Sampling

snakemake: Snakemake
log_to(snakemake.log[0])
drawn = draw_model(
    snakemake.wildcards.model,
    load(ScoreModel, snakemake.input.model),
    load(ImageSet, snakemake.input.images),
    Sampling(**snakemake.params.samples),
    snakemake.params.seed,
)
save(drawn, snakemake.output.drawn, Provenance(**snakemake.params.provenance))

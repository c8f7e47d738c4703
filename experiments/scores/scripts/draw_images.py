from snakemake.iocontainers import Snakemake

from experiments.scores.models import draw_model
from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.synthesise import Samples
from spinmesh.synthesis import ScoreModel

snakemake: Snakemake
log_to(snakemake.log[0])
drawn = draw_model(
    snakemake.wildcards.model,
    load(ScoreModel, snakemake.input.model),
    load(ImageSet, snakemake.input.images),
    Samples(**snakemake.params.samples).spec(),
    snakemake.params.seed,
)
save(drawn, snakemake.output.drawn, Provenance(**snakemake.params.provenance))

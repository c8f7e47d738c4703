from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.images import draw_and_compare
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.scores import ScoreModel
from spinmesh.settings.synthesise import Sampling

snakemake: Snakemake
log_to(snakemake.log[0])
synthesis = draw_and_compare(
    load(ScoreModel, snakemake.input.model),
    load(ImageSet, snakemake.input.images),
    Sampling(**snakemake.params.samples),
    snakemake.params.seed,
)
save(synthesis, snakemake.output.synthesis, Provenance(**snakemake.params.provenance))

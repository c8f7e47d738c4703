from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.images import synthesise
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.synthesise import Samples
from spinmesh.synthesis import ScoreModel

snakemake: Snakemake
log_to(snakemake.log[0])
synthesis = synthesise(
    load(ScoreModel, snakemake.input.model),
    load(ImageSet, snakemake.input.images),
    Samples(**snakemake.params.samples).spec(),
    snakemake.params.seed,
)
save(synthesis, snakemake.output.synthesis, Provenance(**snakemake.params.provenance))

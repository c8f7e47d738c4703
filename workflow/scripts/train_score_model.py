from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.learning import Runtime
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.synthesise import ScoreModelSection
from spinmesh.synthesis import train_score

snakemake: Snakemake
log_to(snakemake.log[0])
model = train_score(
    load(ImageSet, snakemake.input.images),
    ScoreModelSection(**snakemake.params.score_model).spec(),
    snakemake.params.seed,
    Runtime(checkpoint=snakemake.params.checkpoint, restart=True),
)
save(model, snakemake.output.model, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.learning import train_on
from spinmesh.machine import devices_named
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.scores import train_score
from spinmesh.settings.synthesise import ScoreTraining

snakemake: Snakemake
log_to(snakemake.log[0])
model = train_on(
    devices_named(snakemake.params.device, snakemake.params.gpus),
    train_score,
    load(ImageSet, snakemake.input.images),
    ScoreTraining(**snakemake.params.score_model),
    snakemake.params.seed,
    snakemake.params.checkpoint,
)
save(model, snakemake.output.model, Provenance(**snakemake.params.provenance))

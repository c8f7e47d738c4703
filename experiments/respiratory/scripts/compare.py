from snakemake.iocontainers import Snakemake

from experiments.respiratory.comparison import compare
from spinmesh.estimators import Examples
from spinmesh.io import load, save
from spinmesh.machine import device_named
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.respiratory import Afen, SoundFeatures

snakemake: Snakemake
log_to(snakemake.log[0])
model, comparison = compare(
    load(Examples, snakemake.input.windows),
    Afen(**snakemake.params.afen),
    SoundFeatures(**snakemake.params.features),
    snakemake.wildcards.split,
    snakemake.params.seed,
    snakemake.params.checkpoint,
    device_named(snakemake.params.device),
)
provenance = Provenance(**snakemake.params.provenance)
save(model, snakemake.output.model, provenance)
save(comparison, snakemake.output.comparison, provenance)

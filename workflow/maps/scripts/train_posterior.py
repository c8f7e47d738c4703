from pathlib import Path

from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.maps import Kernels, train_posterior
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.maps import PosteriorTraining

snakemake: Snakemake
log_to(snakemake.log[0])
model = train_posterior(
    load(Kernels, snakemake.input.kernels),
    PosteriorTraining(**snakemake.params.posterior),
    snakemake.params.seed,
    Path(snakemake.params.checkpoint),
)
save(model, snakemake.output.model, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from experiments.permeable_axon.settings import AxonSettings
from experiments.permeable_axon.study import shape_model, template
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
params = snakemake.params
settings = AxonSettings(**params.settings)
model = shape_model(template(*settings.template), settings.per_family, settings.latent)
save(model, snakemake.output.model, Provenance(**params.provenance))

from snakemake.iocontainers import Snakemake

from experiments.remidi.settings import Published
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh

snakemake: Snakemake
log_to(snakemake.log[0])
params = snakemake.params
template = Mesh(**params.mesh).template
substrates = Published(**params.published).substrates(template, params.seed)
save(substrates, snakemake.output.substrates, Provenance(**params.provenance))

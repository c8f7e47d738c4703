from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh

snakemake: Snakemake
log_to(snakemake.log[0])
substrates = Mesh(**snakemake.params.mesh).substrates(snakemake.params.seed)
save(substrates, snakemake.output.substrates, Provenance(**snakemake.params.provenance))

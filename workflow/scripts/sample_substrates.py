from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.mesh import substrates_of, swept_disk
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh

snakemake: Snakemake
log_to(snakemake.log[0])
settings = Mesh(**snakemake.params.mesh)
substrates = substrates_of(swept_disk(settings.template), settings, snakemake.params.seed)
save(substrates, snakemake.output.substrates, Provenance(**snakemake.params.provenance))

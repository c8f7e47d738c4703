from snakemake.iocontainers import Snakemake

from spinmesh.config import Mesh
from spinmesh.io import save
from spinmesh.mesh import sample_substrates, swept_disk
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
mesh = Mesh(**snakemake.params.mesh)
substrates = sample_substrates(
    swept_disk(mesh.template.spec()),
    mesh.families,
    mesh.parameter_ranges(),
    mesh.split.model_dump(),
    snakemake.params.seed,
)
save(substrates, snakemake.output.substrates, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.mesh import internal_values, single_substrate, swept_disk
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh

snakemake: Snakemake
log_to(snakemake.log[0])
mesh = Mesh(**snakemake.params.mesh)
template = swept_disk(mesh.template.refined(mesh.target.refine))
target = single_substrate(template, internal_values(mesh.target.shape))
save(target, snakemake.output.mesh, Provenance(**snakemake.params.provenance))

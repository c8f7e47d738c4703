from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.io.meshes import read_mesh
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
mesh = read_mesh(**snakemake.params.mesh["user_mesh"])
save(mesh, snakemake.output.mesh, Provenance(**snakemake.params.provenance))

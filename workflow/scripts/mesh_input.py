from snakemake.iocontainers import Snakemake

from spinmesh.inputs.building import build
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance, cost
from spinmesh.settings import MeshInput

snakemake: Snakemake
log_to(snakemake.log[0])
entry = MeshInput(**snakemake.params.entry)
filling = build(list(snakemake.input), entry).named(entry.name)
provenance = Provenance(**snakemake.params.provenance, notes=filling.lines, cost=cost())
save(filling.mesh, snakemake.output.mesh, provenance)

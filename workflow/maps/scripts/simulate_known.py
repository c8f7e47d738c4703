from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.io.bids import write_bids
from spinmesh.maps import Kernels
from spinmesh.phantom import known_phantom
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.maps import MapPhantom

snakemake: Snakemake
log_to(snakemake.log[0])
kernels = load(Kernels, snakemake.input.kernels)
settings = MapPhantom(**snakemake.params.phantom)
phantom, truth = known_phantom(kernels, settings, snakemake.params.seed)
origin = Provenance(**snakemake.params.provenance)
write_bids(phantom, snakemake.output.bids, "known")
save(truth, snakemake.output.truth, origin)
save(phantom, snakemake.output.phantom, origin)

from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.io.bids import map_series, write_posterior
from spinmesh.maps import MapModel
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
maps, image = map_series(load(MapModel, snakemake.input.model), snakemake.input.bids)
write_posterior(maps, snakemake.output.bids, image)
save(maps, snakemake.output.maps, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.estimators import Examples
from spinmesh.estimators.spikes import band_spikes
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
examples = band_spikes(load(Examples, snakemake.input.cycles), snakemake.params.step_db)
save(examples, snakemake.output.spikes, Provenance(**snakemake.params.provenance))

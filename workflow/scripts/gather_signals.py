from snakemake.iocontainers import Snakemake

from spinmesh.bloch_torrey import Signals
from spinmesh.io import load_shards, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
signals = load_shards(Signals, snakemake.input.shards, "substrate")
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

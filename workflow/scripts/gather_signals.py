from snakemake.iocontainers import Snakemake

from spinmesh.bloch_torrey import Signals, interleave
from spinmesh.io import load, save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
signals = interleave([load(Signals, shard) for shard in snakemake.input.shards])
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.bodies import simulate_substrates
from spinmesh.io import load, rows_of_shard, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate
from spinmesh.tissue import Tissue

snakemake: Snakemake
log_to(snakemake.log[0])
simulate = Simulate(**snakemake.params.simulate)
rows = rows_of_shard(snakemake.wildcards.shard, simulate.shards)
signals = simulate_substrates(
    load(Substrates, snakemake.input.substrates, substrate=rows),
    Tissue.from_settings(snakemake.params.tissue),
    read_acquisition(**snakemake.params.acquisition),
    simulate.basis,
    simulate.device,
)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

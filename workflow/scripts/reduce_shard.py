from snakemake.iocontainers import Snakemake

from spinmesh.bodies import reduce_substrates, strongest_protocol
from spinmesh.io import load, rows_of_shard, save
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate
from spinmesh.tissue import Tissue

snakemake: Snakemake
log_to(snakemake.log[0])
simulate = Simulate(**snakemake.params.simulate)
strength = simulate.packs
rows = rows_of_shard(snakemake.wildcards.shard, simulate.shards)
pack = reduce_substrates(
    load(Substrates, snakemake.input.substrates, substrate=rows),
    Tissue.from_settings(snakemake.params.tissue),
    strongest_protocol(strength.strongest_gradient_mt_per_m, strength.longest_time_ms),
    simulate.basis,
)
save(pack, snakemake.output.pack, Provenance(**snakemake.params.provenance))

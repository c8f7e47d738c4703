from snakemake.iocontainers import Snakemake

from experiments.remidi.methods import simulate_held_out
from experiments.remidi.settings import Experiment
from spinmesh import Substrates, Tissue, swept_disk
from spinmesh.io import load, rows_of_shard, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh

snakemake: Snakemake
log_to(snakemake.log[0])
experiment = Experiment(**snakemake.params.experiment)
shapes = load(Substrates, snakemake.input.substrates).select("test")
rows = rows_of_shard(snakemake.wildcards.shard, snakemake.params.shards)
signals = simulate_held_out(
    shapes.take(list(range(len(shapes))[rows])),
    swept_disk(Mesh(**snakemake.params.mesh).template.refined(experiment.refine)),
    Tissue.from_settings(snakemake.params.tissue),
    read_acquisition(**snakemake.params.acquisition),
    experiment.basis,
)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

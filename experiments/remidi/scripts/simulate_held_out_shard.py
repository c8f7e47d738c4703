from snakemake.iocontainers import Snakemake

from experiments.remidi.methods import simulate_held_out
from experiments.remidi.settings import Experiment
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import Substrates, swept_disk
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh, TissueSection

snakemake: Snakemake
log_to(snakemake.log[0])
experiment = Experiment(**snakemake.params.experiment)
template = Mesh(**snakemake.params.mesh).template
shapes = load(Substrates, snakemake.input.substrates).select("test")
signals = simulate_held_out(
    shapes.shard(int(snakemake.wildcards.shard), snakemake.params.shards),
    swept_disk(template.spec(experiment.refine)),
    TissueSection(**snakemake.params.tissue).tissue(),
    read_acquisition(**snakemake.params.acquisition),
    experiment.basis.spec(),
)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

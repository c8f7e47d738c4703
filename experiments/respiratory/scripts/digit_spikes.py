from snakemake.iocontainers import Snakemake

from experiments.respiratory.ablation import digit_spikes
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
examples = digit_spikes(snakemake.params.steps, snakemake.params.seed)
save(examples, snakemake.output.spikes, Provenance(**snakemake.params.provenance))

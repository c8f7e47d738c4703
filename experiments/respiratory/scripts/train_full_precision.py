from snakemake.iocontainers import Snakemake

from experiments.respiratory.ablation import train_full_precision
from spinmesh.estimators import Examples
from spinmesh.io import load, save
from spinmesh.machine import device_named
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.respiratory import Spiking

snakemake: Snakemake
log_to(snakemake.log[0])
ablation = train_full_precision(
    load(Examples, snakemake.input.spikes),
    snakemake.wildcards.task,
    Spiking(**snakemake.params.spiking),
    snakemake.params.seed,
    device_named(snakemake.params.device),
)
save(ablation, snakemake.output.ablation, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh import ShapeModel, Signals
from spinmesh.images import Synthesis
from spinmesh.inversion import Reconstruction
from spinmesh.io import load, load_optional, write_text
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.report.summary import stage_times, summary_text

snakemake: Snakemake
log_to(snakemake.log[0])
summary = summary_text(
    snakemake.params.results,
    stage_times(snakemake.params.times),
    load(Substrates, snakemake.input.substrates),
    load(Signals, snakemake.input.signals, substrate=[0]).acquisition,
    snakemake.params.inputs,
    load(Reconstruction, snakemake.input.reconstruction),
    load(ShapeModel, snakemake.input.model),
    load_optional(Substrates, snakemake.input.truth),
    load(Synthesis, snakemake.input.synthesis),
)
write_text(summary, snakemake.output.summary)

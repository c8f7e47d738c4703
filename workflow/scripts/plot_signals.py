from snakemake.iocontainers import Snakemake

from spinmesh.bloch_torrey import Signals
from spinmesh.inversion import Target
from spinmesh.io import load
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.report.signals import plot_signals, shown

snakemake: Snakemake
log_to(snakemake.log[0])
titles = shown(load(Substrates, snakemake.input.substrates))
plot_signals(
    load(Signals, snakemake.input.signals, substrate=list(titles)),
    titles.values(),
    load(Target, snakemake.input.target),
    snakemake.output.figure,
)

from snakemake.iocontainers import Snakemake

from spinmesh.bodies import Pack, replay
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
parts = replay(
    load(Pack, snakemake.input.pack),
    read_acquisition(**snakemake.params.acquisition),
    device=Simulate(**snakemake.params.simulate).device,
)
save(parts.signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

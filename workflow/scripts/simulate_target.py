from snakemake.iocontainers import Snakemake

from spinmesh.inversion import simulate_target
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate
from spinmesh.tissue import Tissue

snakemake: Snakemake
log_to(snakemake.log[0])
simulate = Simulate(**snakemake.params.simulate)
target = simulate_target(
    load(Substrates, snakemake.input.mesh).mesh(0),
    Tissue.from_settings(snakemake.params.tissue),
    read_acquisition(**snakemake.params.acquisition),
    simulate.target_basis,
    simulate.snr,
    snakemake.params.seed,
)
save(target, snakemake.output.target, Provenance(**snakemake.params.provenance))

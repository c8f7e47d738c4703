from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import Substrates
from spinmesh.phantom import simulate_phantom
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import PhantomSection, Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
section = PhantomSection(**snakemake.params.phantom)
phantom = simulate_phantom(
    section.fibre_field(),
    load(Substrates, snakemake.input.substrates),
    section.filling.spec(),
    read_acquisition(**snakemake.params.measured_with),
    Simulate(**snakemake.params.simulate).basis.spec(),
    section.snr,
    snakemake.params.seed,
)
save(phantom, snakemake.output.phantom, Provenance(**snakemake.params.provenance))

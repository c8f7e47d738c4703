from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.mesh import Substrates
from spinmesh.phantom import fibre_field, grid_affine, simulate_phantom
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import PhantomSettings, Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
settings = PhantomSettings(**snakemake.params.phantom)
affine = grid_affine(settings.shape, settings.voxel_mm, settings.orientation)
phantom = simulate_phantom(
    fibre_field(settings.field, settings.shape, affine),
    load(Substrates, snakemake.input.substrates),
    settings.filling,
    read_acquisition(**snakemake.params.measured_with),
    Simulate(**snakemake.params.simulate).basis,
    settings.snr,
    snakemake.params.seed,
)
save(phantom, snakemake.output.phantom, Provenance(**snakemake.params.provenance))

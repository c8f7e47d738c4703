from snakemake.iocontainers import Snakemake

from spinmesh.bloch_torrey import Signals
from spinmesh.images import pack_cross_sections
from spinmesh.io import load, save
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import ImageSettings

snakemake: Snakemake
log_to(snakemake.log[0])
images = pack_cross_sections(
    load(Substrates, snakemake.input.substrates),
    load(Signals, snakemake.input.signals),
    ImageSettings(**snakemake.params.images),
    snakemake.params.seed,
)
save(images, snakemake.output.images, Provenance(**snakemake.params.provenance))

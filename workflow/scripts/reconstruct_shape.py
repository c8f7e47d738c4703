from snakemake.iocontainers import Snakemake

from spinmesh import ShapeModel, Target, Tissue, reconstruct
from spinmesh.bloch_torrey import Signals
from spinmesh.io import load, load_optional, save
from spinmesh.io.meshes import write_mesh
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Reconstruct

snakemake: Snakemake
log_to(snakemake.log[0])
reconstruction = reconstruct(
    load(Target, snakemake.input.target),
    load(ShapeModel, snakemake.input.model),
    Tissue.from_settings(snakemake.params.tissue),
    Reconstruct(**snakemake.params.reconstruct),
    snakemake.params.seed,
    load_optional(Signals, snakemake.input.signals),
    snakemake.params.checkpoint,
)
spread = {"posterior_spread_um": reconstruction.spread}
write_mesh(reconstruction.mesh, snakemake.output.mesh, spread)
save(reconstruction, snakemake.output.reconstruction, Provenance(**snakemake.params.provenance))

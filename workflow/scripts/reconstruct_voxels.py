from snakemake.iocontainers import Snakemake

from spinmesh import ShapeModel, Signals, Tissue
from spinmesh.inversion import reconstruct_voxels
from spinmesh.io import load, load_optional, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.targets import read_voxels
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Reconstruct

snakemake: Snakemake
log_to(snakemake.log[0])
acquisition = read_acquisition(**snakemake.params.measured_with)
targets = read_voxels(acquisition, **snakemake.params.voxels)
maps = reconstruct_voxels(
    targets.shard(int(snakemake.wildcards.shard), snakemake.params.shards),
    load(ShapeModel, snakemake.input.model),
    Tissue.from_settings(snakemake.params.tissue),
    Reconstruct(**snakemake.params.reconstruct),
    snakemake.params.seed,
    load_optional(Signals, snakemake.input.signals),
)
save(maps, snakemake.output.voxels, Provenance(**snakemake.params.provenance))

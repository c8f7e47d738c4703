from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.learning import train_on
from spinmesh.machine import devices_named
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import ShapeTraining
from spinmesh.shapes import train_shape_model

snakemake: Snakemake
log_to(snakemake.log[0])
model = train_on(
    devices_named(snakemake.params.device, snakemake.params.gpus),
    train_shape_model,
    load(Substrates, snakemake.input.substrates),
    ShapeTraining(**snakemake.params.shape_model),
    snakemake.params.seed,
)
save(model, snakemake.output.model, Provenance(**snakemake.params.provenance))

from snakemake.iocontainers import Snakemake

from experiments.remidi.settings import Published
from spinmesh.io import load, save
from spinmesh.learning import train_on
from spinmesh.machine import devices_named
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh, ShapeTraining
from spinmesh.shapes import train_shape_model

snakemake: Snakemake
log_to(snakemake.log[0])
params = snakemake.params
model = train_on(
    devices_named(params.device, params.gpus),
    train_shape_model,
    load(Substrates, snakemake.input.substrates),
    ShapeTraining(**params.shape_model),
    params.seed,
    Published(**params.published).further_shapes(Mesh(**params.mesh).template, params.seed),
)
save(model, snakemake.output.model, Provenance(**params.provenance))

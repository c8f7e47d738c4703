from snakemake.iocontainers import Snakemake

from experiments.permeable_axon.settings import AxonSettings
from experiments.permeable_axon.study import reconstruct_target
from spinmesh.io import load
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to
from spinmesh.shapes import ShapeModel

snakemake: Snakemake
log_to(snakemake.log[0])
params, family = snakemake.params, snakemake.wildcards.family
model = load(ShapeModel, snakemake.input.model)
row = reconstruct_target(AxonSettings(**params.settings), model, family, params.number)
write_rows([row], snakemake.output.row)

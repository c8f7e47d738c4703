from snakemake.iocontainers import Snakemake

from experiments.remidi.methods import Arm, Bench, estimate
from spinmesh import Signals, Tissue
from spinmesh.io import load, save
from spinmesh.mesh import Substrates
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Reconstruct
from spinmesh.shapes import ShapeModel

snakemake: Snakemake
log_to(snakemake.log[0])
given, params = snakemake.input, snakemake.params
shapes = load(Substrates, given.substrates)
bench = Bench(
    load(ShapeModel, given.model),
    load(ShapeModel, given.compared),
    *(shapes, load(Signals, given.signals), Tissue.from_settings(params.tissue)),
    *(Reconstruct(**params.reconstruct), params.descents, params.seed),
)
held_out = (shapes.select("test"), load(Signals, given.held_out))
found = estimate(bench, Arm(**params.arm), *held_out, params.chunk, params.chunks)
save(found, snakemake.output.estimates, Provenance(**params.provenance))

from snakemake.iocontainers import Snakemake

from experiments.remidi.ablations import ablate
from experiments.remidi.methods import Bench
from experiments.remidi.settings import Experiment
from spinmesh import Signals, Tissue
from spinmesh.io import load, save
from spinmesh.mesh import Substrates, swept_disk
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Mesh, Reconstruct
from spinmesh.shapes import ShapeModel

snakemake: Snakemake
log_to(snakemake.log[0])
given, params = snakemake.input, snakemake.params
model, experiment = load(ShapeModel, given.model), Experiment(**params.experiment)
tissue = Tissue.from_settings(params.tissue)
settings = Reconstruct(**params.reconstruct)
tables = (load(Substrates, given.substrates), load(Signals, given.signals))
bench = Bench(model, model, *tables, tissue, settings, experiment.descents, params.seed)
fine = swept_disk(Mesh(**params.mesh).template.refined(experiment.refine))
found = ablate(bench, snakemake.wildcards.name, fine, experiment.basis)
save(found, snakemake.output.estimates, Provenance(**params.provenance))

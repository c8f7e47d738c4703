from snakemake.iocontainers import Snakemake

from experiments.conditional.calibration import evaluate_conditional
from experiments.conditional.settings import Conditional
from spinmesh.bundles import ImageSet
from spinmesh.io import load, save
from spinmesh.io.tables import write_rows
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.scores import ScoreModel

snakemake: Snakemake
log_to(snakemake.log[0])
calibration = evaluate_conditional(
    load(ScoreModel, snakemake.input.model),
    load(ImageSet, snakemake.input.images),
    Conditional(**snakemake.params.conditional),
    snakemake.params.seed,
)
write_rows(calibration.rows(), snakemake.output.table)
save(calibration, snakemake.output.calibration, Provenance(**snakemake.params.provenance))

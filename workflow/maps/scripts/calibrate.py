from snakemake.iocontainers import Snakemake

from spinmesh.io import load, save
from spinmesh.io.tables import write_rows
from spinmesh.maps import MapModel, calibrate
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
model = load(MapModel, snakemake.input.model)
calibration = calibrate(model, snakemake.params.held_out, snakemake.params.seed)
write_rows(calibration.rows(), snakemake.output.table)
save(calibration, snakemake.output.calibration, Provenance(**snakemake.params.provenance))

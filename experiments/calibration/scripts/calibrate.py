from snakemake.iocontainers import Snakemake

from experiments.calibration.settings import CalibrationSettings
from experiments.calibration.study import calibrate_chunk
from spinmesh.io import save
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
params = snakemake.params
result = calibrate_chunk(CalibrationSettings(**params.settings), params.chunk, params.chunks)
save(result, snakemake.output.ranks, Provenance(**params.provenance))

from snakemake.iocontainers import Snakemake

from spinmesh.io import save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.targets import read_target
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance

snakemake: Snakemake
log_to(snakemake.log[0])
acquisition = read_acquisition(**snakemake.params.measured_with)
target = read_target(acquisition, **snakemake.params.signal)
save(target, snakemake.output.target, Provenance(**snakemake.params.provenance))

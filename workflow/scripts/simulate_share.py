from snakemake.iocontainers import Snakemake

from spinmesh import TetMesh, Tissue
from spinmesh.bodies import simulate_share
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
filled = snakemake.params.filled
settings = Simulate(**filled["simulate"])
mesh = load(TetMesh, snakemake.input.mesh)
tissue = Tissue.from_settings(filled["tissue"]).filling(mesh.labels)
acquisition = read_acquisition(**filled["acquisition"])
job, jobs = int(snakemake.wildcards.job), int(snakemake.wildcards.jobs)
signals = simulate_share(
    mesh, tissue, acquisition, settings.basis, settings.device, job=job, jobs=jobs
)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

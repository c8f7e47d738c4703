from snakemake.iocontainers import Snakemake

from spinmesh import TetMesh, Tissue
from spinmesh.inputs.simulating import simulate_input
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.tables import write_signal_table
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance, cost
from spinmesh.settings import Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
filled = snakemake.params.filled
settings = Simulate(**filled["simulate"])
mesh = load(TetMesh, snakemake.input.mesh)
tissue = Tissue.from_settings(filled["tissue"]).filling(mesh.labels)
acquisition = read_acquisition(**filled["acquisition"])
signals = simulate_input(mesh, tissue, acquisition, settings, snakemake.input.shares)
write_signal_table(signals, snakemake.output.table)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance, cost=cost()))

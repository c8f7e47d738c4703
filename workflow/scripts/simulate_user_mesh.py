from snakemake.iocontainers import Snakemake

from spinmesh import TetMesh, Tissue
from spinmesh.bloch_torrey import simulate
from spinmesh.io import load, save
from spinmesh.io.acquisitions import read_acquisition
from spinmesh.io.tables import write_signal_table
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings import Simulate

snakemake: Snakemake
log_to(snakemake.log[0])
settings = Simulate(**snakemake.params.simulate)
mesh = load(TetMesh, snakemake.input.mesh)
signals = simulate(
    mesh,
    Tissue.from_settings(snakemake.params.user_tissue).filling(mesh.labels),
    read_acquisition(**snakemake.params.acquisition),
    settings.basis,
    settings.device,
)
write_signal_table(signals, snakemake.output.table)
save(signals, snakemake.output.signals, Provenance(**snakemake.params.provenance))

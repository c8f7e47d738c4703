from snakemake.iocontainers import Snakemake

from spinmesh.io import load
from spinmesh.io.store import attributes_of
from spinmesh.mesh import TetMesh
from spinmesh.progress import log_to
from spinmesh.report.inputs import plot_input

snakemake: Snakemake
log_to(snakemake.log[0])
mesh = load(TetMesh, snakemake.input.mesh)
notes = attributes_of(snakemake.input.mesh)["notes"]
plot_input(mesh, notes, snakemake.output.figure)

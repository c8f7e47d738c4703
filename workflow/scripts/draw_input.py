from snakemake.iocontainers import Snakemake

from spinmesh.io import load, write_text
from spinmesh.io.store import attributes_of
from spinmesh.mesh import TetMesh
from spinmesh.progress import log_to
from spinmesh.report.inputs import plot_input
from spinmesh.report.page import scene_of

snakemake: Snakemake
log_to(snakemake.log[0])
mesh = load(TetMesh, snakemake.input.mesh)
notes = attributes_of(snakemake.input.mesh)["notes"]
plot_input(mesh, notes, snakemake.output.figure)
write_text(scene_of(mesh, notes), snakemake.output.scene)

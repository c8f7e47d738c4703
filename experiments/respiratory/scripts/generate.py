from snakemake.iocontainers import Snakemake

from spinmesh.io.sounds import write_folder
from spinmesh.progress import log_to
from spinmesh.settings.respiratory import LungSounds
from spinmesh.sounds import generate

snakemake: Snakemake
log_to(snakemake.log[0])
settings = LungSounds(**snakemake.params.sounds)
write_folder(generate(settings, snakemake.params.seed), snakemake.output.folder)

from snakemake.iocontainers import Snakemake

from spinmesh.estimators.lung_sounds import window_examples
from spinmesh.io import save
from spinmesh.io.sounds import read_folder
from spinmesh.progress import log_to
from spinmesh.provenance import Provenance
from spinmesh.settings.respiratory import SoundFeatures

snakemake: Snakemake
log_to(snakemake.log[0])
recordings = read_folder(snakemake.input.folder, snakemake.params.diagnoses)
examples = window_examples(recordings, SoundFeatures(**snakemake.params.features))
save(examples, snakemake.output.windows, Provenance(**snakemake.params.provenance))

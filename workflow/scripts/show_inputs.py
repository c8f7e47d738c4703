from snakemake.iocontainers import Snakemake

from spinmesh.io import write_text
from spinmesh.io.text import text_of
from spinmesh.progress import log_to
from spinmesh.report.page import page_of

snakemake: Snakemake
log_to(snakemake.log[0])
write_text(page_of(list(map(text_of, snakemake.input.scenes))), snakemake.output.page)
